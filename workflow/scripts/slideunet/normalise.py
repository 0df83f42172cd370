"""Grey values to what the network sees: (value - low) / (high - low), per channel.

low and high are percentiles, either of the whole training set (scope `training`: they stand in the
model card) or of each image or slide as a whole (scope `image`: robust to another exposure). Never
of a tile: neighbouring tiles would get seams. Nothing is clipped: a bright speck stays a speck.
"""

from collections.abc import Iterable

import numpy as np

from slideunet.errors import UserError

# Of other than 8- and 16-bit images about this many pixels per call of `add` are kept: the
# percentile's own scatter is then far below a grey value's noise.
SAMPLED_PX = 2**20


class Percentiles:
    """Percentiles per channel of any number of pieces of images.

    Exact for uint8 and uint16 (a histogram); other types are sampled at a regular step. Definition:
    the smallest value that at least `percent` of the pixels do not exceed.
    """

    def __init__(self):
        self._dtype: np.dtype | None = None
        self._counts: np.ndarray | None = None  # (C, 65536)
        self._kept: list[np.ndarray] = []  # (C, n) each

    def add(self, pixels: np.ndarray) -> None:
        """Take in (C, ...) pixels.

        Raises UserError for NaN or infinity among them, and where the pieces' types differ: 8-bit
        and 16-bit images have no grey value in common.
        """
        flat = pixels.reshape(len(pixels), -1)
        if self._dtype not in (None, flat.dtype):
            raise UserError(
                f"images of type {self._dtype} and of {flat.dtype} share no grey values: "
                "give images of one type, or set intensity.scope to image"
            )
        self._dtype = flat.dtype
        if flat.dtype in (np.uint8, np.uint16):
            if self._counts is None:
                self._counts = np.zeros((len(flat), 2**16), dtype=np.int64)
            for counts, channel in zip(self._counts, flat, strict=True):
                found = np.bincount(channel)
                counts[: len(found)] += found
            return
        if not np.isfinite(flat).all():
            raise UserError("the image holds pixels that are NaN or infinite: mend the image")
        step = -(-flat.shape[1] // SAMPLED_PX)
        self._kept.append(flat[:, ::step].astype(np.float64))

    def at(self, percent: float) -> list[float]:
        """One value per channel. Raises ValueError where nothing was added."""
        if self._counts is not None:
            until = np.cumsum(self._counts, axis=1)
            wanted = np.maximum(1, np.ceil(until[:, -1:] * (percent / 100)))
            return [float(value) for value in (until < wanted).sum(axis=1)]
        values = np.concatenate(self._kept, axis=1)
        return np.percentile(values, percent, axis=1, method="inverted_cdf").tolist()


def constants(images: Iterable[np.ndarray], intensity: dict) -> dict:
    """{"low": [one per channel], "high": [...]} of (C, ...) images taken together.

    `intensity` is the config section (or a model card's normalisation): low_percentile,
    high_percentile. The images must have the same number of channels.
    """
    percentiles = Percentiles()
    for image in images:
        percentiles.add(image)
    return {
        "low": percentiles.at(intensity["low_percentile"]),
        "high": percentiles.at(intensity["high_percentile"]),
    }


def of_training(images: Iterable[np.ndarray], intensity: dict) -> dict:
    """A model card's normalisation: the config section, with constants for scope `training`."""
    found = constants(images, intensity) if intensity["scope"] == "training" else {}
    return {**intensity, **found}


def for_image(image: np.ndarray, normalisation: dict) -> dict:
    """The constants for one whole image (C, Y, X) by a model card's normalisation."""
    if normalisation["scope"] == "training":
        return {"low": normalisation["low"], "high": normalisation["high"]}
    return constants([image], normalisation)


def scale(pixels: np.ndarray, scaling: dict) -> np.ndarray:
    """(C, Y, X) of any type -> float32: low becomes 0, high becomes 1.

    Where low == high (an image of one grey value) that value becomes 0.
    """
    low = np.array(scaling["low"], dtype=np.float32)[:, None, None]
    high = np.array(scaling["high"], dtype=np.float32)[:, None, None]
    span = np.where(high > low, high - low, np.float32(1))
    return (pixels.astype(np.float32) - low) / span
