"""How many pixels each pair of labels shares: the table that all object and region measures read.

It is sparse (only pairs that occur) and holds the ids in sorted lists, so that neither the number
of objects nor the size of an id costs memory: ids above 2**31 are as good as 1, 2, 3.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from slideunet.metrics import inputs

# Pixels whose runs are found at once: enough to be fast, 128 MiB of temporary arrays at most.
BLOCK_PX = 1 << 22


@dataclass(frozen=True)
class PairCounts:
    """Pixels per pair of labels, background (0) included; one entry per pair that occurs.

    `reference_ids`, `prediction_ids`: the sorted labels that occur. Pair k is label
    `reference_ids[rows[k]]` over label `prediction_ids[columns[k]]` on `pixels[k]` pixels; pairs
    are sorted by row, then column.
    """

    reference_ids: np.ndarray
    prediction_ids: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    pixels: np.ndarray

    def table(self) -> scipy.sparse.csr_array:
        """The counts as a sparse (reference, prediction) matrix of float64."""
        shape = (len(self.reference_ids), len(self.prediction_ids))
        return scipy.sparse.csr_array((self.pixels.astype(float), (self.rows, self.columns)), shape)

    def reference_pixels(self) -> np.ndarray:
        """Pixels of each label of `reference_ids`, int64."""
        return _sums(self.rows, self.pixels, len(self.reference_ids))

    def prediction_pixels(self) -> np.ndarray:
        """Pixels of each label of `prediction_ids`, int64."""
        return _sums(self.columns, self.pixels, len(self.prediction_ids))


def pair_counts(
    reference: np.ndarray, prediction: np.ndarray, ignore: np.ndarray | None = None
) -> PairCounts:
    """Count the pixels of each pair of labels of two label images of one shape.

    `ignore` (bool, same shape): pixels that are left out. Raises UserError as `inputs` says.
    """
    inputs.same_shape(reference, prediction)
    ignore = inputs.ignore_mask(ignore, np.shape(reference))
    reference = inputs.label_image(reference, "reference", ignore)
    prediction = inputs.label_image(prediction, "prediction", ignore)
    first, second, lengths = _runs(reference.ravel(), prediction.ravel(), ignore)
    reference_ids, rows = np.unique(first, return_inverse=True)
    prediction_ids, columns = np.unique(second, return_inverse=True)
    keys, runs = np.unique(rows * len(prediction_ids) + columns, return_inverse=True)
    return PairCounts(
        reference_ids,
        prediction_ids,
        keys // max(len(prediction_ids), 1),
        keys % max(len(prediction_ids), 1),
        _sums(runs, lengths, len(keys)),
    )


def _runs(first: np.ndarray, second: np.ndarray, ignore: np.ndarray | None):
    """Runs of equal pairs along the pixels: their labels and lengths.

    Objects are many pixels wide, so that there are far fewer runs than pixels to be sorted.
    """
    counted = None if ignore is None else ~ignore.ravel()
    parts = []
    for begin in range(0, first.size, BLOCK_PX):
        block = slice(begin, begin + BLOCK_PX)
        one, two = first[block], second[block]
        if counted is not None:
            one, two = one[counted[block]], two[counted[block]]
        if not one.size:
            continue
        starts = np.flatnonzero((one[1:] != one[:-1]) | (two[1:] != two[:-1])) + 1
        starts = np.concatenate(([0], starts))
        parts.append((one[starts], two[starts], np.diff(starts, append=one.size)))
    if not parts:
        return first[:0], second[:0], np.zeros(0, np.int64)
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _sums(index: np.ndarray, pixels: np.ndarray, size: int) -> np.ndarray:
    # bincount sums in float64, which is exact up to 2**53 pixels.
    return np.bincount(index, weights=pixels, minlength=size).astype(np.int64)
