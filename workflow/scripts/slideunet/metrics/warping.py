"""Warping error of ISBI 2012: splits and mergers that no deformation of the borders explains.

The reference is warped towards the prediction by flipping simple points, pixels whose flip changes
no topology (Jain et al. 2010), as long as that brings the two closer. Pixels that still differ
are topological errors, and are classified one by one as splits, mergers, holes and objects.
Source: official class WarpingError of Fiji's Trainable_Segmentation; the challenge's figure is its
getMinimumSplitsAndMergersErrorValue(0, 1, 0.1, false, 20).

The official code passes over all differing pixels until a pass flips none. Here a pixel is looked
at again only after a neighbour was flipped, but at the same place in the same order, so that the
flips are the same ones. The order matters: pixels that differ most from the threshold come first,
equal ones column by column.
"""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from slideunet.errors import UserError
from slideunet.metrics import inputs

# Pixels around a split candidate in which the two sides are looked for (the challenge's radius).
RADIUS_PX = 20

# The ring around a pixel, clockwise from above, and each neighbour's bit in the pixel's ring code.
_RING = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


@dataclass(frozen=True)
class WarpingCounts:
    """Pixels of one section that still differ after warping, by the error they stand for.

    A section's warping error is (splits + mergers) / pixels.
    """

    splits: int = 0
    mergers: int = 0
    hole_additions: int = 0
    hole_deletions: int = 0
    object_additions: int = 0
    object_deletions: int = 0

    @property
    def mismatches(self) -> int:
        """All pixels that still differ."""
        holes = self.hole_additions + self.hole_deletions
        objects = self.object_additions + self.object_deletions
        return self.splits + self.mergers + holes + objects


def _runs(code: int) -> list[list[int]]:
    """The 4-connected foreground components of a ring code, each as its bits.

    The ring is a circle of eight pixels, each 4-connected to the next: components are its runs.
    """
    if code == 255:
        return [list(range(8))]
    gap = next(bit for bit in range(8) if not code >> bit & 1)
    runs: list[list[int]] = [[]]
    for bit in ((gap + step) % 8 for step in range(1, 9)):
        if code >> bit & 1:
            runs[-1].append(bit)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _simple(code: int) -> bool:
    """Whether the pixel in the middle of a ring is simple (Bertrand and Malandain 1994).

    With 4-connected foreground and 8-connected background: exactly one component of the foreground
    shares an edge with it (the even bits do), and some background touches it.
    """
    return code != 255 and sum(any(bit % 2 == 0 for bit in run) for run in _runs(code)) == 1


_SIMPLE = [_simple(code) for code in range(256)]
_PARTS = [len(_runs(code)) for code in range(256)]


def warp(reference: np.ndarray, target: np.ndarray, priority: np.ndarray) -> np.ndarray:
    """Flip simple points of `reference` towards `target`: the warped reference, bool (Y, X).

    Both are bool (Y, X); beyond the edge is background. Of the pixels that differ, those with the
    larger `priority` (Y, X) are tried first, equal ones column by column.
    """
    # Transposed, so that column by column is the order in memory; padded by the background.
    source = np.pad(reference.T, 1)
    differs = source != np.pad(target.T, 1)
    pixels = np.flatnonzero(differs)
    order = np.argsort(-np.pad(priority.T, 1).ravel()[pixels], kind="stable")
    pixels = pixels[order].tolist()
    place = np.full(source.size, -1)
    place[pixels] = np.arange(len(pixels))
    codes = _ring_codes(source)
    pending = bytearray(np.asarray(_SIMPLE)[codes[pixels]].tobytes())
    flipped = _relax(pixels, pending, place.tolist(), codes.tolist(), source.shape[1])
    warped = source.ravel().copy()
    warped[flipped] ^= True
    return warped.reshape(source.shape)[1:-1, 1:-1].T


def _ring_codes(padded: np.ndarray) -> np.ndarray:
    """The ring code of each pixel of a padded image, flat; the padding's own are 0."""
    codes = np.zeros(padded.shape, np.uint8)
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    for bit, (down, right) in enumerate(_RING):
        near = padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        codes[1:-1, 1:-1] |= near.astype(np.uint8) << bit
    return codes.ravel()


def _relax(
    pixels: list[int], pending: bytearray, place: list[int], codes: list[int], width: int
) -> list[int]:
    """Flip the pixels that are simple, in order, until none is: the indices of those flipped.

    `pending[k]` marks that `pixels[k]` is to be looked at, `place` holds each pixel's k (-1: does
    not differ). A sweep goes through the marks upwards; a mark set ahead of it is reached in this
    sweep, one set behind it in the next.
    """
    # A pixel's bit in its neighbour's code is that of the opposite direction.
    ring = [(down * width + right, 1 << (bit + 4) % 8) for bit, (down, right) in enumerate(_RING)]
    simple = _SIMPLE
    flipped = []
    at = pending.find(1)
    while at >= 0:
        pending[at] = 0
        pixel = pixels[at]
        if simple[codes[pixel]]:
            flipped.append(pixel)
            place[pixel] = -1
            for step, bit in ring:
                near = pixel + step
                code = codes[near] = codes[near] ^ bit
                if place[near] >= 0 and simple[code]:
                    pending[place[near]] = 1
        at = pending.find(1, at + 1)
        if at < 0:
            at = pending.find(1)
    return flipped


def classify(warped: np.ndarray, target: np.ndarray, radius_px: int = RADIUS_PX) -> WarpingCounts:
    """Count the pixels in which `warped` and `target` (bool, Y, X) differ, by kind of error.

    The kind follows from the objects (4-connected, of the warped image) among the eight neighbours
    inside the image: none or one around means an object or a hole comes or goes, two or more that
    a pixel missing in `target` splits them and one missing in `warped` merges them. Where a
    foreground pixel lies between one object and background, it is a split if its removal parts
    that object within `radius_px`, else the deletion of a hole.
    """
    objects, _ = scipy.ndimage.label(warped)
    padded = np.pad(objects, 1, constant_values=-1)
    y, x = np.nonzero(warped != target)
    around = np.stack([padded[y + 1 + down, x + 1 + right] for down, right in _RING], axis=1)
    around.sort(axis=1)
    new = np.diff(around, axis=1, prepend=-1) != 0  # the padding, -1, is no neighbour
    kinds, surrounded = new.sum(1), (around > 0).any(1)
    white = warped[y, x]
    one, two, several = kinds <= 1, kinds == 2, kinds >= 3
    unclear = two & white
    codes = _ring_codes(np.pad(warped, 1)).reshape(padded.shape)[y + 1, x + 1]
    parted = _parted(warped, y[unclear], x[unclear], codes[unclear], radius_px)
    return WarpingCounts(
        splits=int((several & white).sum()) + parted,
        mergers=int((several & ~white).sum()),
        hole_additions=int((one & surrounded & white).sum() + (two & ~white).sum()),
        hole_deletions=int((one & surrounded & ~white).sum() + unclear.sum()) - parted,
        object_additions=int((one & ~surrounded & ~white).sum()),
        object_deletions=int((one & ~surrounded & white).sum()),
    )


def _parted(
    warped: np.ndarray, y: np.ndarray, x: np.ndarray, codes: np.ndarray, radius_px: int
) -> int:
    """How many of the foreground pixels (y, x) part what surrounds them if they are removed."""
    if not 1 <= radius_px <= min(warped.shape):
        radius_px = max(warped.shape)  # as officially: such a radius means the whole image
    padded = np.pad(warped, radius_px)
    edges = scipy.ndimage.generate_binary_structure(2, 1)  # once: there may be many small windows
    parted = 0
    for row, column, code in zip(y.tolist(), x.tolist(), codes.tolist(), strict=True):
        if _PARTS[code] < 2:
            continue  # all the foreground around it is one run of the ring
        window = padded[row : row + 2 * radius_px + 1, column : column + 2 * radius_px + 1].copy()
        window[radius_px, radius_px] = False
        objects, _ = scipy.ndimage.label(window, edges)
        around = {objects[radius_px + down, radius_px + right] for down, right in _RING}
        parted += len(around) > 2
    return parted


def warping_counts(
    reference: np.ndarray, probability: np.ndarray, threshold: float = 0.5
) -> WarpingCounts:
    """Errors of one section at one threshold: `reference` is a mask (Y, X), foreground the cells,
    `probability` (Y, X) that of the foreground, which is taken where it is above the threshold.

    Raises UserError as `inputs` says.
    """
    inputs.same_shape(reference, probability)
    reference = inputs.mask(reference, "reference")
    probability = inputs.probability(probability, "probability")
    if reference.ndim != 2:
        raise UserError(f"the reference has {reference.ndim} axes: warp one section (Y, X) a time")
    wide = probability.astype(np.float64)
    target = wide > threshold
    warped = warp(reference, target, np.abs(wide - threshold).astype(np.float32))
    return classify(warped, target)
