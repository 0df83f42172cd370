"""IoU, Dice, pixel error and the F-score over thresholds, by hand and by definition."""

import numpy as np
import pytest
from slideunet.errors import UserError
from slideunet.metrics import pixels


def test_two_masks_by_hand():
    reference = np.array([[1, 1, 1, 0, 0, 0]])
    prediction = np.array([[0, 1, 1, 1, 0, 0]])
    assert pixels.iou(reference, prediction) == 2 / 4
    assert pixels.dice(reference, prediction) == 4 / 6
    assert pixels.pixel_error(reference, prediction) == pytest.approx(2 / 6)
    ignore = np.array([[1, 0, 0, 0, 0, 0]])
    assert pixels.iou(reference, prediction, ignore) == 2 / 3
    assert pixels.pixel_error(reference, prediction, ignore) == pytest.approx(1 / 5)


def test_classes_by_hand():
    reference = np.array([[0, 0, 1, 1, 2, 2, 255]])
    prediction = np.array([[0, 1, 1, 1, 2, 0, 1]])
    matrix = pixels.confusion(reference, prediction, 4, reference == 255)
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert pixels.class_iou(matrix).tolist() == [1 / 3, 2 / 3, 1 / 2, 1]
    assert pixels.class_dice(matrix).tolist() == [2 / 4, 4 / 5, 2 / 3, 1]
    assert pixels.wrong_share(matrix) == pytest.approx(2 / 6)


def test_a_class_too_many_is_refused():
    with pytest.raises(UserError, match="prediction holds class 3 and there are 3 classes"):
        pixels.confusion(np.array([[0, 1]]), np.array([[0, 3]]), 3)


def test_confusion_matrix_counts_every_pixel_once():
    rng = np.random.default_rng(1)
    reference, prediction = rng.integers(0, 5, (2, 30, 41))
    matrix = pixels.confusion(reference, prediction, 5)
    for one in range(5):
        for two in range(5):
            assert matrix[one, two] == ((reference == one) & (prediction == two)).sum()


def test_f_scores_by_definition():
    rng = np.random.default_rng(2)
    reference = rng.random((3, 20, 20)) < 0.6
    probability = rng.integers(0, 11, reference.shape).astype(np.float32) / np.float32(10)
    ignore = rng.random(reference.shape) < 0.2
    thresholds = (0.5, 0.0, 0.30000000000000004, 0.95, 1.0)
    for mask in (None, ignore):
        counted = np.ones_like(reference) if mask is None else ~mask
        expected = []
        for threshold in thresholds:
            found = probability.astype(np.float64) > threshold
            both = (found & reference & counted).sum()
            expected.append(2 * both / ((found & counted).sum() + (reference & counted).sum()))
        assert pixels.f_scores(reference, probability, thresholds, mask) == pytest.approx(expected)


def test_a_pixel_at_the_threshold_is_background():
    reference, probability = np.array([[1, 0]]), np.array([[0.5, 0.5]])
    assert pixels.f_scores(reference, probability, (0.49, 0.5)).tolist() == [2 / 3, 0]
