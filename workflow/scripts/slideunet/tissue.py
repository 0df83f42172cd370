"""Where the tissue is, on an overview of the slide: so that glass is never read at full size.

Bright field: optical density and saturation against the glass, each with Otsu's threshold held
between bounds; felt-pen marks are told by hue and taken out. Everything else (fluorescence, grey
pictures): the intensity above the dark background, deliberately low, so that a faint cell counts;
a picture without a dark background is all tissue. Missing tissue loses cells, extra tissue only
costs time: every step errs to the side of more, and `tissue: all` or the user's outlines replace
the mask.

Thresholds are ours, set on the reference slides; the quantities are those of CLAM, HistoQC and
PathML (saturation, optical density, pen by colour).
"""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from slideunet.tissue_mask import Tissue, is_bright_field

# Bounds of the bright-field thresholds: 0.03 OD is the noise of blank glass, 0.12 the palest eosin.
OD_BOUNDS, SATURATION_BOUNDS = (0.03, 0.12), (0.05, 0.15)
# Specks of dust below 0.01 mm2 are no tissue; holes below 0.25 mm2 are lumina, filled.
MIN_AREA_MM2, MAX_HOLE_MM2 = 0.01, 0.25
MIN_AREA_PX, MAX_HOLE_PX = 8, 4096  # the same where the slide has no pixel size
# What is more coloured than this, at its brightest, is no glass.
GLASS_SATURATION_MAX = 0.12
# A dot of a felt pen covers more than 0.05 mm2; more pen than this share is a stain.
PEN_MIN_MM2, PEN_MIN_PX, PEN_MAX_SHARE = 0.05, 128, 0.3
# Fluorescence: background plus so many robust standard deviations of itself counts as signal.
NOISE_SIGMAS = 4.0
# A background is dark where the median lies within this share of the range above the darkest.
DARK_SHARE = 0.2


def find_tissue(
    overview: np.ndarray,
    scale_yx: tuple[float, float],
    mpp_um: tuple[float, float] | None,
    colour: bool,
    mode: str = "auto",
) -> Tissue:
    """Tissue on an overview (C, Y, X).

    `mpp_um` is level 0's (y, x), `colour` whether the channels are red, green and blue, `mode`
    auto or all.
    """
    shape = overview.shape[1:]
    nothing = np.zeros(shape, bool)
    if mode == "all":
        return Tissue(np.ones(shape, bool), nothing, scale_yx, "all")
    if not (colour and is_bright_field(overview)):
        return Tissue(_by_intensity(overview), nothing, scale_yx, "intensity")
    glass = _glass_colour(overview)
    relative = np.clip(overview.astype(np.float32) / glass[:, None, None], 1 / 255, 1)
    min_px, hole_px, pen_px = MIN_AREA_PX, MAX_HOLE_PX, PEN_MIN_PX
    if mpp_um is not None:
        per_mm2 = 1e6 / (mpp_um[0] * scale_yx[0] * mpp_um[1] * scale_yx[1])
        areas = MIN_AREA_MM2, MAX_HOLE_MM2, PEN_MIN_MM2
        min_px, hole_px, pen_px = (max(1, round(area * per_mm2)) for area in areas)
    pen = pen_mask(relative, pen_px)
    mask = _drop_small(_closed(_by_density(relative) & ~pen, 1), min_px)
    mask = ~_drop_small(~mask, hole_px)
    return Tissue(ndimage.binary_dilation(mask) & ~pen, pen, scale_yx, "bright field")


def pen_mask(relative: np.ndarray, min_px: int) -> np.ndarray:
    """Felt-pen on an overview (3, Y, X), 1.0 being glass: green, blue and black ink.

    Marks of fewer than `min_px` pixels are none.

    Red ink can't be told from blood and stays. Blue or green over most of the slide is a stain
    (trichrome, Alcian blue) and no pen at all.
    """
    hue, saturation, value = _hsv(relative)
    green = (hue > 80) & (hue < 200) & (saturation > 0.25)
    blue = (hue >= 200) & (hue < 250) & (saturation > 0.55)
    black = (value < 0.3) & (saturation < 0.5)
    pen = _drop_small(ndimage.binary_opening(green | blue | black), min_px)
    anything = (value < 0.9) | (saturation > 0.1)
    if pen.sum() > PEN_MAX_SHARE * max(1, anything.sum()):
        return np.zeros(pen.shape, bool)
    return ndimage.binary_dilation(pen, iterations=2) if pen.any() else pen


def _glass_colour(overview: np.ndarray) -> np.ndarray:
    """The glass: the bright end of each channel, at least 150; white where that end has a colour.

    Glass and lamp may be yellowish; a bright end with more colour is a slide that is all tissue.
    """
    bright = np.maximum(np.percentile(overview.reshape(3, -1), 99, axis=1), 150)
    if bright.min() < (1 - GLASS_SATURATION_MAX) * bright.max():
        bright[:] = bright.max()
    return bright.astype(np.float32)


def _by_density(relative: np.ndarray) -> np.ndarray:
    density = -np.log10(relative).mean(axis=0)
    _, saturation, _ = _hsv(relative)
    found = np.zeros(density.shape, bool)
    for values, (low, high) in ((density, OD_BOUNDS), (saturation, SATURATION_BOUNDS)):
        smooth = ndimage.gaussian_filter(values, 1)
        otsu = threshold_otsu(smooth) if np.ptp(smooth) > 0 else high
        found |= smooth > np.clip(otsu, low, high)
    return found


def _by_intensity(overview: np.ndarray) -> np.ndarray:
    """Any channel above its dark background; everything where there is no such background."""
    found = np.zeros(overview.shape[1:], bool)
    for channel in overview:
        values = np.nan_to_num(channel.astype(np.float64), posinf=0, neginf=0)
        darkest, middle, brightest = np.percentile(values, (1, 50, 99.9))
        if brightest <= darkest:
            # Flat but for at most a thousandth: whatever differs is signal, if anything does.
            found |= values > middle
            continue
        if middle - darkest > DARK_SHARE * (brightest - darkest):
            return np.ones(found.shape, bool)
        dark = values[values <= threshold_otsu(values)]
        background = float(np.median(dark))
        noise = 1.4826 * float(np.median(np.abs(dark - background)))
        limit = min(threshold_otsu(values), background + NOISE_SIGMAS * noise)
        found |= values > limit
    # The margin takes in the faint rim of cells, the closing joins the specks of a noisy picture.
    return _closed(ndimage.binary_dilation(found, iterations=2), 4)


def _hsv(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hue in degrees, saturation and value of (3, Y, X) in 0..1."""
    from skimage.color import rgb2hsv

    hsv = rgb2hsv(rgb, channel_axis=0)
    return hsv[0] * 360, hsv[1], hsv[2]


def _closed(mask: np.ndarray, px: int) -> np.ndarray:
    """Binary closing that does not eat at the picture's border."""
    wide = np.pad(mask, px, mode="edge")
    return ndimage.binary_closing(wide, iterations=px)[px:-px, px:-px]


def _drop_small(mask: np.ndarray, min_px: int) -> np.ndarray:
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    if not count:
        return mask
    return (np.bincount(labels.ravel()) >= min_px)[labels] & mask
