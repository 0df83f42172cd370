"""Class probabilities as they lie on disk, and what is derived from them pixel by pixel."""

import numpy as np

from slideunet.errors import SlideError


def read_probabilities(array, where: tuple[slice, slice], every: int = 1) -> np.ndarray:
    """Read a window of `array` (C, Y, X) as float32 in 0..1; uint8 255 counts as 1.

    `every`: keep every n-th row and column only. Raises SlideError where a float map holds NaN,
    infinity, or values outside 0..1: a network that answered so has answered wrongly elsewhere too,
    so nothing is guessed.
    """
    values = np.asarray(array[(slice(None), *where)])[:, ::every, ::every]
    if values.dtype == np.uint8:
        return values.astype(np.float32) / np.float32(255)
    if values.dtype.kind != "f":
        raise SlideError(f"probabilities are {values.dtype}; they must be uint8 or float")
    bad = ~((values >= 0) & (values <= 1))
    if bad.any():
        channel, y, x = (int(v[0]) for v in np.nonzero(bad))
        raise SlideError(
            f"probability map: {values[channel, y, x]} for class {channel} at "
            f"y={y * every + (where[0].start or 0)}, x={x * every + (where[1].start or 0)} "
            f"({int(bad.sum())} such pixels in this block); segment the slide again"
        )
    return values.astype(np.float32)


def entropy_nats(probabilities: np.ndarray) -> np.ndarray:
    """Predictive entropy -sum p ln p over the first axis, float32, 0..ln C.

    The classes are scaled to a sum of 1 first (rounding to uint8 leaves it off by some 1/255);
    where all are 0 (a pixel that was not segmented) the entropy is 0.
    """
    total = probabilities.sum(axis=0)
    entropy = np.zeros(total.shape, np.float32)
    scale = np.divide(1, total, out=np.zeros_like(total), where=total > 0)
    for one in probabilities:
        p = one * scale
        entropy -= p * np.log(p, out=np.zeros_like(p), where=p > 0)
    return np.maximum(entropy, 0)


class ThresholdedClasses:
    """A class map (Y, X) uint8 seen through probabilities (C, Y, X), computed as it is read.

    A pixel belongs to an object if the classes 1.. together reach `threshold`, and to the
    likeliest of them. (A class map takes the likeliest of all classes, background among them.)
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, probabilities, threshold: float):
        self.probabilities, self.threshold = probabilities, np.float32(threshold)
        self.shape = tuple(probabilities.shape[1:])

    def __getitem__(self, where: tuple[slice, slice]) -> np.ndarray:
        objects = read_probabilities(self.probabilities, where)[1:]
        likeliest = objects.argmax(axis=0).astype(np.uint8) + np.uint8(1)
        return np.where(objects.sum(axis=0) >= self.threshold, likeliest, np.uint8(0))
