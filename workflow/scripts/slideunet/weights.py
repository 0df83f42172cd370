"""The weight map of the U-Net paper (section 3, equation 2) and its ingredients.

The weight of a pixel x in the loss is

    w(x) = w_c(class of x) + border(x),      0 where nobody annotated (target 255)

with w_c a vector per training run, made from the class counts of its images (`class_weights`), and
border a map per image (`border_term`), so that one more image rewrites no other map. Both presets
have this form:

`paper` (Ronneberger, Fischer, Brox 2015): border = w0 exp(-(d1 + d2)^2 / (2 sigma^2)) on
background pixels, w0 = 10, sigma = 5 px; w_c balances the class frequencies. How is not said there:
`rarest_one` (below) is what published reimplementations do (F. Guerrero-Pena's unetwmap.m), and
what the ratio of the authors' later plugin means.

`falk2019` (Falk et al. 2019, Nature Methods 16, 67-70), from the plugin's source,
lmb-freiburg/Unet-Segmentation: src/de/unifreiburg/unet/Tools.java, addLabelsAndWeightsToBlobs, and
the numbers from ModelDefinition.java beside it (foregroundBackgroundRatio v = 0.1, sigma1Px = 10,
borderWeightFactor = 50, borderWeightSigmaPx = 6): weight 1 for every foreground pixel, and for
background v + (1 - v) exp(-d1^2 / (2 sigma1^2)) + 50 exp(-(d1 + d2)^2 / (2 sigma^2)). That is
w_c = (v, 1, 1, ...), whatever the counts, with both exponentials in the border map.

d1, d2: distances in pixels to the nearest and to the second nearest cell (instance), of whatever
class, after the separating line (`separate_touching`) is drawn.
"""

import numpy as np

from slideunet.border import SEPARATION_HALO_PX, border_term, reaches_px, separate_touching
from slideunet.errors import UserError

IGNORE_LABEL = -1  # in label images
IGNORE_TARGET = 255  # in targets
_ROWS = 1024  # counted at a time: numpy widens what it counts to 8 bytes a pixel

_PRESETS = {
    "paper": {
        "w0": 10.0,
        "sigma_px": 5.0,
        "class_balance": "rarest_one",
        "foreground_background_ratio": None,
        "balance_sigma_px": None,
    },
    "falk2019": {
        "w0": 50.0,
        "sigma_px": 6.0,
        "class_balance": "foreground_one",
        "foreground_background_ratio": 0.1,
        "balance_sigma_px": 10.0,
    },
}
# The settings that border_term takes, in its order.
_BORDER_KEYS = ("w0", "sigma_px", "foreground_background_ratio", "balance_sigma_px")


def preset(name: str) -> dict:
    """The settings of a preset: w0, sigma_px, class_balance, foreground_background_ratio,
    balance_sigma_px (the last two None where it has no such term).
    """
    if name not in _PRESETS:
        raise UserError(f"weights.preset: no preset {name!r}; choose {', '.join(_PRESETS)}, custom")
    return dict(_PRESETS[name])


def resolve(settings: dict) -> dict:
    """The config's section `weights` as a full set of settings (the keys of `preset`).

    A named preset stands as published, whatever other keys there are; with `preset: custom` they
    count, and those that are missing are taken from `paper`.
    """
    name = settings.get("preset", "paper")
    full = preset("paper" if name == "custom" else name)
    if name == "custom":
        full |= {key: settings[key] for key in full if settings.get(key) is not None}
    needs_ratio = full["class_balance"] == "foreground_one" or full["balance_sigma_px"] is not None
    if needs_ratio and full["foreground_background_ratio"] is None:
        raise UserError(
            "weights.foreground_background_ratio is missing: class_balance foreground_one and "
            "balance_sigma_px need it"
        )
    return full


def weight_map(label: np.ndarray, classes: np.ndarray, settings: dict) -> tuple:
    """Target and border map of one training image: what is stored for it.

    label: (Y, X) int32, -1 not annotated, 0 background, instances from 1.
    classes: (Y, X) uint8, 255 not annotated, else the class index (0 background).
    settings: a full set (see `resolve`).
    Returns target (Y, X) uint8: classes, with the separating line turned into background and
    255 where either of the two says that nobody annotated; border (Y, X) float32. With a halo of
    halo_px(settings) a block gives what the whole image gives, bit for bit.
    """
    line = separate_touching(label)
    target = np.where(line, np.uint8(0), classes)
    target[label == IGNORE_LABEL] = IGNORE_TARGET
    cells = np.where(line, np.int32(0), label)
    return target, border_term(cells, *(settings[key] for key in _BORDER_KEYS))


def halo_px(settings: dict) -> int:
    """Pixels around a block that its weight_map rests on; settings: a full set (see `resolve`)."""
    reaches = reaches_px(*(settings[key] for key in _BORDER_KEYS))
    return int(max(reaches)) + SEPARATION_HALO_PX


def class_counts(target: np.ndarray, classes: int) -> np.ndarray:
    """Pixels per class of target (Y, X) uint8, those of 255 left out: (classes,) int64."""
    counts = np.zeros(256, np.int64)
    for row in range(0, len(target), _ROWS):
        counts += np.bincount(target[row : row + _ROWS].ravel(), minlength=256)
    beyond = np.flatnonzero(counts[classes:IGNORE_TARGET])
    if beyond.size:
        raise UserError(
            f"class index {classes + beyond[0]} in the labels, but the config names "
            f"{classes} classes: add the class or correct the labels"
        )
    return counts[:classes]


def class_weights(counts: np.ndarray, settings: dict) -> np.ndarray:
    """w_c: one weight per class for a training run.

    counts: (classes,) pixels per class, summed over the images of the run.
    settings: class_balance is one of
    - `rarest_one`: min(n) / n_c, so that all classes have the same total weight, and the pixels of
      the rarest one weigh 1;
    - `mean_one`: N / (K n_c), the same with the mean weight of a pixel 1 (N pixels, K classes);
    - `foreground_one`: foreground_background_ratio for class 0, 1 for all others (falk2019);
    - `none`: 1 for all;
    - a list of one number per class.
    A class without pixels gets 1 (nothing carries it). Returns (classes,) float32.
    """
    counts = np.asarray(counts, np.int64)
    present = counts > 0
    if present.sum() < 2:
        raise UserError(
            "the training images hold pixels of one class only "
            f"(pixels per class: {', '.join(map(str, counts))}): annotate another"
        )
    balance = settings["class_balance"]
    weights = np.ones(len(counts))
    if balance == "rarest_one":
        weights[present] = counts[present].min() / counts[present]
    elif balance == "mean_one":
        weights[present] = counts.sum() / (present.sum() * counts[present])
    elif balance == "foreground_one":
        weights[0] = settings["foreground_background_ratio"]
    elif not isinstance(balance, str):
        if len(balance) != len(counts):
            raise UserError(f"weights.class_balance: {len(balance)} weights, {len(counts)} classes")
        weights = np.asarray(balance, float)
    elif balance != "none":
        raise UserError(
            f"weights.class_balance: no method {balance!r}; choose rarest_one, mean_one, "
            "foreground_one, none or a list of one number per class"
        )
    return weights.astype(np.float32)
