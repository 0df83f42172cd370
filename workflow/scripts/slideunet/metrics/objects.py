"""Measures that look at whole objects: F1, average precision and panoptic quality.

One rule of matching for all: a reference object and a predicted one are a pair where their
intersection over union is greater than the threshold, each object in one pair at most. From 0.5 on
no object can have two such partners (Kirillov et al. 2019, theorem 1), so that nothing has to be
chosen; below 0.5 the pairs are those of the assignment with the most pairs, then the largest sum of
IoU.

Pixels of the `ignore` mask are cut out of both images before areas and overlaps are counted. An
object is set aside if half of it or more is ignored, or if it is smaller than `min_area_px` (all
its pixels counted, ignored ones too). Objects set aside still match, but are no errors of anybody:
- a reference object set aside is not to be found, and what matches it counts neither way;
- a predicted object set aside counts where it matches, and is no false positive where it does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from slideunet.errors import UserError
from slideunet.metrics import inputs
from slideunet.metrics.overlap import pair_counts
from slideunet.metrics.pixels import f_score

# Average precision: the thresholds 0.50, 0.55 .. 0.95 (COCO; Data Science Bowl 2018).
IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


@dataclass(frozen=True)
class ObjectCounts:
    """What a matching counted. Sums over images (`a + b`) are the counts of all their objects.

    `iou_sum` is the sum of the IoU of the true positives.
    """

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    iou_sum: float = 0.0

    def __add__(self, other: "ObjectCounts") -> "ObjectCounts":
        return ObjectCounts(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
            self.iou_sum + other.iou_sum,
        )

    @property
    def precision(self) -> float:
        """Share of the predicted objects that are true; 1.0 where nothing was predicted."""
        found = self.true_positives + self.false_positives
        return self.true_positives / found if found else 1.0

    @property
    def recall(self) -> float:
        """Share of the reference objects that were found; 1.0 where there is none."""
        wanted = self.true_positives + self.false_negatives
        return self.true_positives / wanted if wanted else 1.0

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); 1.0 where neither image holds an object that counts."""
        return f_score(self.true_positives, self.false_positives, self.false_negatives)

    @property
    def average_precision(self) -> float:
        """TP / (TP + FP + FN), the average precision of masks without confidences; 1.0 as f1."""
        whole = self.true_positives + self.false_positives + self.false_negatives
        return self.true_positives / whole if whole else 1.0

    @property
    def segmentation_quality(self) -> float:
        """Mean IoU of the true positives; 1.0 where there is none."""
        return self.iou_sum / self.true_positives if self.true_positives else 1.0

    @property
    def panoptic_quality(self) -> float:
        """Segmentation quality x F1 (Kirillov et al. 2019, eq. 1 and 2; IoU threshold 0.5)."""
        return self.segmentation_quality * self.f1


@dataclass(frozen=True)
class Overlaps:
    """Objects of two label images and how they overlap; the input of `match`.

    Per object: its id, its pixels that count, whether it is set aside. Per pair of objects with a
    common pixel that counts: their rows in these lists and the IoU.
    """

    reference_ids: np.ndarray
    prediction_ids: np.ndarray
    reference_aside: np.ndarray
    prediction_aside: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    iou: np.ndarray


def overlaps(
    reference: np.ndarray,
    prediction: np.ndarray,
    min_area_px: int = 0,
    ignore: np.ndarray | None = None,
) -> Overlaps:
    """Find the objects of two label images of one shape and the IoU of those that overlap.

    An object is all pixels of one label, connected or not. Raises UserError as `inputs` says.
    """
    inputs.same_shape(reference, prediction)
    ignore = inputs.ignore_mask(ignore, np.shape(reference))
    reference = inputs.label_image(reference, "reference", ignore)
    prediction = inputs.label_image(prediction, "prediction", ignore)
    whole = pair_counts(reference, prediction)
    cut = whole if ignore is None else pair_counts(reference, prediction, ignore)
    one = _objects(whole.reference_ids, whole.reference_pixels())
    two = _objects(whole.prediction_ids, whole.prediction_pixels())
    one_counted = _counted(one[0], cut.reference_ids, cut.reference_pixels())
    two_counted = _counted(two[0], cut.prediction_ids, cut.prediction_pixels())
    ids = cut.reference_ids[cut.rows], cut.prediction_ids[cut.columns]
    both = (ids[0] != 0) & (ids[1] != 0)
    rows = np.searchsorted(one[0], ids[0][both])
    columns = np.searchsorted(two[0], ids[1][both])
    common = cut.pixels[both]
    return Overlaps(
        one[0],
        two[0],
        (2 * one_counted <= one[1]) | (one[1] < min_area_px),
        (2 * two_counted <= two[1]) | (two[1] < min_area_px),
        rows,
        columns,
        common / (one_counted[rows] + two_counted[columns] - common),
    )


def _objects(ids: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ids[ids != 0], pixels[ids != 0]


def _counted(ids: np.ndarray, cut_ids: np.ndarray, cut_pixels: np.ndarray) -> np.ndarray:
    """Pixels of each object that count: 0 for one that lies in ignored pixels altogether."""
    pixels = np.zeros(len(ids), np.int64)
    cut_ids, cut_pixels = _objects(cut_ids, cut_pixels)
    pixels[np.searchsorted(ids, cut_ids)] = cut_pixels
    return pixels


def match(found: Overlaps, iou: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matching pairs at an IoU threshold: rows, columns and IoU, one entry per pair.

    `iou` in [0, 1): pairs have a greater one. Raises UserError otherwise.
    """
    if not 0 <= iou < 1:
        raise UserError(f"the IoU threshold is {iou}: give one from 0 to below 1")
    near = found.iou > iou
    rows, columns, values = found.rows[near], found.columns[near], found.iou[near]
    if iou < 0.5 and len(values):
        chosen = _assign(rows, columns, values)
        rows, columns, values = rows[chosen], columns[chosen], values[chosen]
    return rows, columns, values


def _assign(rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which pairs (bool) make the best one-to-one assignment: most pairs, then largest IoU."""
    # Objects with one possible partner that has no other need no choice: most of them.
    contested = (np.bincount(rows)[rows] > 1) | (np.bincount(columns)[columns] > 1)
    chosen = ~contested
    if not contested.any():
        return chosen
    _, row = np.unique(rows[contested], return_inverse=True)
    _, column = np.unique(columns[contested], return_inverse=True)
    # A pair is worth 2 and less than its share of 1, so that no sum of IoU outweighs a pair. Each
    # object may stay alone instead, for 1: its own column beyond the real ones.
    alone = np.arange(row.max() + 1)
    worth = np.concatenate((2 + values[contested] / (2 * len(row)), np.ones(len(alone))))
    partner = np.concatenate((column, column.max() + 1 + alone))
    graph = scipy.sparse.csr_array((worth, (np.concatenate((row, alone)), partner)))
    _, best = min_weight_full_bipartite_matching(graph, maximize=True)
    chosen[contested] = best[row] == column
    return chosen


def count(found: Overlaps, iou: float = 0.5) -> ObjectCounts:
    """Count true positives, false positives and false negatives at an IoU threshold."""
    rows, columns, values = match(found, iou)
    wanted = ~found.reference_aside[rows]
    missed = ~found.reference_aside
    missed[rows] = False
    wrong = ~found.prediction_aside
    wrong[columns] = False
    return ObjectCounts(
        int(wanted.sum()), int(wrong.sum()), int(missed.sum()), float(values[wanted].sum())
    )


def object_counts(
    reference: np.ndarray,
    prediction: np.ndarray,
    iou: float = 0.5,
    min_area_px: int = 0,
    ignore: np.ndarray | None = None,
) -> ObjectCounts:
    """Object counts of two label images of one shape (any size that memory holds).

    `object_counts(...).f1` is the object F1; the rules of matching, of `min_area_px` and of
    `ignore` (bool, True = does not count) are at the head of this file. Raises UserError as
    `inputs` says.
    """
    return count(overlaps(reference, prediction, min_area_px, ignore), iou)


def average_precisions(
    reference: np.ndarray,
    prediction: np.ndarray,
    thresholds: Sequence[float] = IOU_THRESHOLDS,
    min_area_px: int = 0,
    ignore: np.ndarray | None = None,
) -> dict[float, ObjectCounts]:
    """Object counts at each IoU threshold; each one's `.average_precision` is the AP there.

    AP = TP / (TP + FP + FN), as the Data Science Bowl 2018 defined it (Caicedo et al. 2019).
    """
    found = overlaps(reference, prediction, min_area_px, ignore)
    return {threshold: count(found, threshold) for threshold in thresholds}


def mean_average_precision(counts: dict[float, ObjectCounts]) -> float:
    """Mean of the average precisions over the thresholds of `average_precisions`."""
    return float(np.mean([each.average_precision for each in counts.values()]))
