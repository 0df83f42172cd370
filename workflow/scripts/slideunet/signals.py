"""What is measured under each object beside its shape: channels, stains, class probabilities."""

from dataclasses import dataclass

import numpy as np

from slideunet.blocks import bands, ordered_map
from slideunet.columns import signal_names
from slideunet.errors import SlideError
from slideunet.probability import entropy_nats, read_probabilities

# Values that aren't integers are rounded to whole steps of 2^-30 of the largest one, so that sums
# are exact in any order: finer than float32 resolves its own largest value (2^-24).
FINE = 2.0**30


@dataclass(frozen=True)
class Sources:
    """The array-likes beside the label image, of the same rows and columns.

    `image` (C, Y, X), `channels` its names; `stains`: an RGB image of H&E; `peaks`: the largest
    absolute value of each channel of a float image; `probabilities` (C, Y, X) uint8 or float.
    """

    image: object = None
    channels: tuple[str, ...] = ()
    stains: bool = False
    peaks: tuple[float, ...] = ()
    probabilities: object = None

    @property
    def names(self) -> list[str]:
        """Stems of the measured signals, in the order of `read`."""
        own = ["probability", "entropy"] if self.probabilities is not None else []
        return own + (signal_names(list(self.channels), self.stains) if self.channels else [])

    @property
    def steps(self) -> list[float]:
        """What one whole step is worth, for each of `names`."""
        steps = []
        if self.probabilities is not None:
            steps = [1 / FINE, 2 / FINE]
        if self.image is not None:
            fine = np.dtype(self.image.dtype).kind == "f"
            steps += (
                [(peak or 1.0) / FINE for peak in self.peaks]
                if fine
                else [1.0] * len(self.channels)
            )
        return steps + ([1 / FINE] * 2 if self.stains else [])


def check_sources(sources: Sources, shape: tuple[int, int]) -> None:
    """Raise SlideError if an array doesn't fit label images of `shape`."""
    for name in ("image", "probabilities"):
        array = getattr(sources, name)
        if array is not None and (len(array.shape) != 3 or tuple(array.shape[1:]) != tuple(shape)):
            raise SlideError(
                f"{name} is {tuple(array.shape)}, the label image {tuple(shape)}: "
                "rows and columns must be the same"
            )
    if sources.image is None:
        return
    if len(sources.channels) != sources.image.shape[0]:
        raise SlideError(
            f"image has {sources.image.shape[0]} channels, {len(sources.channels)} names are given"
        )
    dtype = np.dtype(sources.image.dtype)
    if dtype.kind not in "uif" or (dtype.kind in "ui" and dtype.itemsize > 4):
        raise SlideError(f"image is {dtype}; integers of at most 32 bits and floats are measured")
    if sources.stains and (sources.image.shape[0] != 3 or dtype not in (np.uint8, np.uint16)):
        raise SlideError("haematoxylin and eosin are measured in RGB images of 8 or 16 bits only")


def find_peaks(image, block_px: int, workers: int = 1) -> tuple[float, ...]:
    """Largest absolute finite value of each channel of a float image (C, Y, X), read once."""

    def peak(block):
        values = np.abs(np.asarray(image[:, block.y0 : block.y1, block.x0 : block.x1]))
        return np.where(np.isfinite(values), values, 0).max(axis=(1, 2))

    blocks = [block for band in bands(image.shape[1:], block_px) for block in band]
    best = np.zeros(image.shape[0])
    for one in ordered_map(peak, blocks, workers):
        best = np.maximum(best, one)
    return tuple(best.tolist())


def read_signals(sources: Sources, where, pixels: np.ndarray, classes: np.ndarray):
    """Yield (values, whole steps) of each signal at flat indices `pixels` of a block.

    `where`: the block's slices; `classes`: each pixel's own class (uint8), for its probability.
    """
    steps = iter(sources.steps)
    if sources.probabilities is not None:
        found = read_probabilities(sources.probabilities, where)
        found = found.reshape(len(found), -1)[:, pixels]
        own = np.take_along_axis(found, classes[None].astype(np.intp), axis=0)[0]
        yield _whole(own, next(steps))
        yield _whole(entropy_nats(found), next(steps))
    if sources.image is None:
        return
    block = np.asarray(sources.image[(slice(None), *where)])
    block = block.reshape(len(block), -1)[:, pixels]
    for channel in block:
        step = next(steps)
        yield (channel, channel.astype(np.int64)) if step == 1.0 else _whole(channel, step)
    if sources.stains:
        for density in stain_densities(block):
            yield _whole(density, next(steps))


def _whole(values: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    finite = np.where(np.isfinite(values), values, 0)
    return values, np.rint(finite.astype(np.float64) / step).astype(np.int64)


def stain_densities(rgb: np.ndarray) -> np.ndarray:
    """Haematoxylin and eosin densities (2, n) float64 of `rgb` (3, n) uint8 or uint16.

    The definition of skimage.color.rgb2hed (Ruifrok & Johnston 2001), by look-up table and with
    the products added in a fixed order, so that the last digit doesn't hang on the block's size.
    """
    from skimage.color import hed_from_rgb

    largest = np.iinfo(rgb.dtype).max
    table = np.maximum(np.arange(largest + 1) / largest, 1e-6)
    table = np.log(table) / np.log(1e-6)
    red, green, blue = table[rgb]
    stains = [red * m[0] + green * m[1] + blue * m[2] for m in hed_from_rgb.T[:2]]
    return np.maximum(np.stack(stains), 0)
