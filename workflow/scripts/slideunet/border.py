"""The two pixel maps behind the weight map: the line between touching cells, the border term.

Both are computed block by block, so that their temporary arrays stay below 100 MB whatever the
size of the image, and a block with enough around it gives what the whole gives, bit for bit.
"""

import math
from collections.abc import Iterator

import numpy as np

from slideunet.distances import two_nearest, worth_compiling
from slideunet.errors import UserError

# Half the distance from 1 to the next float32: a term below it, added to a weight of 1, is lost.
NEGLIGIBLE = 2.0**-24
# Pixels around a block that separate_touching needs to give what it gives for the whole.
SEPARATION_HALO_PX = 3
# Side of a block: the margin of 30 px costs 12 % there, and the arrays still fit into the cache.
BLOCK_PX = 1024


def separate_touching(label: np.ndarray) -> np.ndarray:
    """Pixels to turn into background so that no two instances touch, not even at a corner.

    label: (Y, X) integer, instances from 1; 0 and below (background, ignored) never touch.
    Returns (Y, X) bool.

    Of two pixels of different instances that are 8-neighbours, the one with the larger label gives
    way: one row of pixels of one of the two cells, whichever way their border runs. (The authors'
    plugin takes the later one in raster order, source: weights.py, which makes upright lines two
    pixels wide.) By that alone objects one or two pixels wide could vanish, so thin pixels stay
    and their neighbours give way, whatever the labels: thin is a pixel in contact, none of whose 8
    neighbours is free of contact. Between two thin pixels it is the labels again: of two touching
    one-pixel objects one is lost.

    Local: with a halo of SEPARATION_HALO_PX a block gives what the whole image gives.
    """
    line = np.zeros(label.shape, bool)
    halo = SEPARATION_HALO_PX
    for block in _blocks(label.shape):
        separated = _separate_block(_with_margin(label, block, halo))
        line[block] = separated[halo:-halo, halo:-halo]
    return line


def _separate_block(label: np.ndarray) -> np.ndarray:
    # A rim of background, so that in the flattened image a step in any direction is one number.
    padded = np.pad(np.maximum(label, 0), 1)
    flat, width = padded.ravel(), padded.shape[1]
    inside = flat > 0
    touching = np.zeros(flat.shape, bool)
    pairs = []
    for step in (1, width - 1, width, width + 1):
        contact = flat[:-step] != flat[step:]
        contact &= inside[:-step]
        contact &= inside[step:]
        one = np.flatnonzero(contact)
        pairs.append((one, one + step))
        touching[one] = touching[one + step] = True
    # What follows looks at pixels in contact alone: they are few.
    free = inside & ~touching
    found = np.flatnonzero(touching)
    # A pixel free of contact has only its own instance around it, so any neighbour counts.
    around = (1, width - 1, width, width + 1, -1, 1 - width, -width, -1 - width)
    supported = np.any([free[found + step] for step in around], axis=0)
    thin = np.zeros(flat.shape, bool)
    thin[found[~supported]] = True
    line = np.zeros(flat.shape, bool)
    for one, other in pairs:
        larger = flat[one] > flat[other]
        gives_way = np.where(thin[one] == thin[other], larger, thin[other])
        line[one[gives_way]] = True
        line[other[~gives_way]] = True
    return line.reshape(padded.shape)[1:-1, 1:-1]


def border_term(
    label: np.ndarray,
    w0: float,
    sigma_px: float,
    foreground_background_ratio: float | None = None,
    balance_sigma_px: float | None = None,
) -> np.ndarray:
    """The border map: (Y, X) float32, 0 inside cells.

    label: (Y, X) int32, instances from 1, which do not have to touch; background is all else
    (not annotated pixels too: they have a value here and no weight in the loss).

    On background w0 exp(-(d1 + d2)^2 / (2 sigma_px^2)), 0 where there are fewer than two cells;
    with balance_sigma_px there is added to it
    (1 - foreground_background_ratio) exp(-d1^2 / (2 balance_sigma_px^2)). Sources: weights.py.

    Exact where it counts. A term is cut, to 0, where it is below 2^-24 = 6e-8 (NEGLIGIBLE), that
    is where d1 + d2 > reach = sigma sqrt(2 ln(w0 2^24)): 30.8 px for w0 = 10, sigma = 5. Both
    distances then lie within floor(reach) of the pixel (d1 >= 1 on background, so even
    d2 <= reach - 1), and a block with so much margin knows all that the whole image knows. The
    distances are integers squared, whichever way they come, and the value is computed from them
    in float64 and rounded once.
    """
    reach, balance_reach = reaches_px(w0, sigma_px, foreground_background_ratio, balance_sigma_px)
    second_px = math.floor(reach)
    margin = max(second_px, math.floor(balance_reach))
    compiled = worth_compiling(label, margin)
    border = np.empty(label.shape, np.float32)
    for block in _blocks(label.shape):
        squared = two_nearest(_with_margin(label, block, margin), margin, second_px, compiled)
        # Roots and exponentials of the pixels that have a value alone: often less than half.
        counts = label[block] <= 0
        counts &= squared[0] <= margin**2 if balance_sigma_px else squared[1] <= second_px**2
        nearest, second = (np.sqrt(found[counts], dtype=np.float64) for found in squared)
        value = _gaussian(nearest + second, w0, sigma_px, reach)
        if balance_sigma_px is not None:
            balance = 1 - foreground_background_ratio
            value += _gaussian(nearest, balance, balance_sigma_px, balance_reach)
        whole = np.zeros(counts.shape, np.float32)
        whole[counts] = value
        border[block] = whole
    return border


def _gaussian(distance: np.ndarray, factor: float, sigma_px: float, reach: float) -> np.ndarray:
    """factor exp(-distance^2 / (2 sigma_px^2)), 0 beyond reach; written over distance (float64)."""
    cut = distance > reach
    distance *= distance
    distance *= -1 / (2 * sigma_px**2)
    np.exp(distance, out=distance)
    distance *= factor
    distance[cut] = 0
    return distance


def _reach_px(factor: float, sigma_px: float) -> float:
    """Distance s beyond which factor exp(-s^2 / (2 sigma_px^2)) < NEGLIGIBLE, in pixels."""
    if not sigma_px > 0:
        raise UserError(f"weights: a sigma of {sigma_px} px; give a number of pixels above 0")
    return sigma_px * math.sqrt(2 * math.log(max(1.0, factor / NEGLIGIBLE)))


def reaches_px(
    w0: float,
    sigma_px: float,
    foreground_background_ratio: float | None = None,
    balance_sigma_px: float | None = None,
) -> tuple[float, float]:
    """Longest d1 + d2 that counts in border_term, and longest d1 that counts in its balance."""
    if balance_sigma_px is None:
        return _reach_px(w0, sigma_px), 0.0
    balance = 1 - foreground_background_ratio
    return _reach_px(w0, sigma_px), _reach_px(balance, balance_sigma_px)


def _blocks(shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    for top in range(0, shape[0], BLOCK_PX):
        for left in range(0, shape[1], BLOCK_PX):
            yield (
                slice(top, min(top + BLOCK_PX, shape[0])),
                slice(left, min(left + BLOCK_PX, shape[1])),
            )


def _with_margin(label: np.ndarray, block: tuple[slice, slice], margin: int) -> np.ndarray:
    """The block with `margin` pixels around it; beyond the image there is background (0)."""
    inner = tuple(
        slice(max(0, side.start - margin), min(length, side.stop + margin))
        for side, length in zip(block, label.shape, strict=True)
    )
    missing = [
        (margin - (side.start - known.start), margin - (known.stop - side.stop))
        for side, known in zip(block, inner, strict=True)
    ]
    return np.pad(label[inner], missing)
