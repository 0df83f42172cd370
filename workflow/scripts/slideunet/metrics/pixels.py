"""Measures of single pixels: IoU, Dice, pixel error and the F-score over thresholds.

Binary images: two masks. Several classes: the confusion matrix, which is summed over the images of
a fold before a measure is taken from it, so that every annotated pixel counts the same.
"""

from collections.abc import Sequence

import numpy as np

from slideunet.errors import UserError
from slideunet.metrics import inputs
from slideunet.metrics.overlap import pair_counts


def confusion(
    reference: np.ndarray, prediction: np.ndarray, classes: int, ignore: np.ndarray | None = None
) -> np.ndarray:
    """Pixels per pair of classes: int64 (classes, classes), rows reference, columns prediction.

    Class images of one shape with values 0 .. classes - 1 wherever `ignore` is False; what they
    hold under `ignore` (255, say) does not matter. Raises UserError on any other class there.
    """
    pairs = pair_counts(reference, prediction, ignore)
    for ids, name in ((pairs.reference_ids, "reference"), (pairs.prediction_ids, "prediction")):
        if len(ids) and ids[-1] >= classes:
            raise UserError(
                f"the {name} holds class {ids[-1]} and there are {classes} classes (0 to"
                f" {classes - 1}): put pixels that do not count into the ignore mask"
            )
    matrix = np.zeros((classes, classes), np.int64)
    matrix[pairs.reference_ids[pairs.rows], pairs.prediction_ids[pairs.columns]] = pairs.pixels
    return matrix


def class_iou(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of each class of a confusion matrix, float64 (classes,).

    1.0 for a class that neither image holds: there was nothing to find and nothing was found.
    """
    both = np.diag(matrix)
    return _share(both, matrix.sum(0) + matrix.sum(1) - both)


def class_dice(matrix: np.ndarray) -> np.ndarray:
    """Dice coefficient 2 |A n B| / (|A| + |B|) of each class, float64 (classes,); 1.0 as above."""
    return _share(2 * np.diag(matrix), matrix.sum(0) + matrix.sum(1))


def wrong_share(matrix: np.ndarray) -> float:
    """Share of the counted pixels whose class is wrong. Raises UserError where no pixel counts."""
    if not matrix.sum():
        raise UserError("no pixel counts, all are ignored: the pixel error is not defined")
    return float(1 - np.trace(matrix) / matrix.sum())


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.ones(len(whole)), where=whole != 0)


def iou(reference: np.ndarray, prediction: np.ndarray, ignore: np.ndarray | None = None) -> float:
    """Intersection over union of two masks; 1.0 where both are empty, 0.0 where just one is."""
    return float(class_iou(_binary(reference, prediction, ignore))[1])


def dice(reference: np.ndarray, prediction: np.ndarray, ignore: np.ndarray | None = None) -> float:
    """Dice coefficient of two masks; 1.0 where both are empty, 0.0 where just one is."""
    return float(class_dice(_binary(reference, prediction, ignore))[1])


def pixel_error(
    reference: np.ndarray, prediction: np.ndarray, ignore: np.ndarray | None = None
) -> float:
    """Share of the counted pixels in which two masks differ."""
    return wrong_share(_binary(reference, prediction, ignore))


def _binary(reference: np.ndarray, prediction: np.ndarray, ignore: np.ndarray | None) -> np.ndarray:
    inputs.same_shape(reference, prediction)
    ignore = inputs.ignore_mask(ignore, np.shape(reference))
    reference = inputs.mask(reference, "reference", ignore)
    prediction = inputs.mask(prediction, "prediction", ignore)
    return confusion(reference, prediction, 2, ignore)


def f_score(true_positives: float, false_positives: float, false_negatives: float) -> float:
    """Harmonic mean of precision and recall from counts (of pixels, of objects, of pixel pairs).

    1.0 where there is no positive at all, as in the official ISBI code (ClassificationStatistics).
    """
    whole = 2 * true_positives + false_positives + false_negatives
    return 2 * true_positives / whole if whole else 1.0


def f_scores(
    reference: np.ndarray,
    probability: np.ndarray,
    thresholds: Sequence[float],
    ignore: np.ndarray | None = None,
) -> np.ndarray:
    """F-score of pixel similarity at each threshold, float64 (len(thresholds),).

    `reference`: mask, `probability`: probability of its foreground, one shape (a section or a
    stack, whose pixels are counted together). A pixel is foreground above a threshold. The ISBI
    2012 pixel error is 1 - the largest of them (Arganda-Carreras et al. 2015; official class
    PixelError, getPixelErrorMaximalFScore).
    """
    inputs.same_shape(reference, probability)
    ignore = inputs.ignore_mask(ignore, np.shape(reference))
    reference, probability = np.asarray(reference), np.asarray(probability)
    if ignore is not None:
        reference, probability = reference[~ignore], probability[~ignore]
    reference = inputs.mask(reference, "reference")
    probability = inputs.probability(probability, "probability")
    # Number of thresholds below each value; the comparison is float32 > float64 as in the official
    # code, so the float32 values are widened, not the thresholds narrowed.
    order = np.sort(np.asarray(thresholds, np.float64))
    above = np.searchsorted(order, probability.astype(np.float64).ravel(), side="left")
    cells = np.bincount(above[reference.ravel()], minlength=len(order) + 1)
    rest = np.bincount(above[~reference.ravel()], minlength=len(order) + 1)
    found, wrong = (counts[::-1].cumsum()[::-1][1:] for counts in (cells, rest))
    scores = [f_score(*counts) for counts in zip(found, wrong, cells.sum() - found, strict=True)]
    return np.array(scores)[np.searchsorted(order, thresholds)]
