"""The map that objects are made from: the class map, or a threshold on the probabilities."""

import numpy as np

# Probabilities are stored as 255 p, rounded.
WHOLE = 255


class ThresholdMap:
    """Array-like (Y, X) uint8: the likeliest foreground class where all foreground together
    reaches the threshold, else 0. From probabilities (C, Y, X) uint8, background first.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, probabilities, threshold: float):
        self.probabilities = probabilities
        self.shape = tuple(probabilities.shape[1:])
        self.least = threshold * WHOLE

    def __getitem__(self, where: tuple[slice, slice]) -> np.ndarray:
        foreground = np.asarray(self.probabilities[(slice(1, None), *where)])  # (C - 1, Y, X)
        likeliest = foreground.argmax(axis=0).astype(np.uint8) + np.uint8(1)
        reached = foreground.sum(axis=0, dtype=np.uint16) >= self.least
        return np.where(reached, likeliest, np.uint8(0))


def object_map(segmentation, source: str, threshold: float):
    """Array-like (Y, X) uint8 of classes, 0 background, from a segmentation's Zarr group.

    source : `classes` (the class map as it is) or `probability`
    """
    if source == "classes":
        return segmentation["labels/classes/0"]
    return ThresholdMap(segmentation["0"], threshold)
