"""Object F1, average precision and panoptic quality: by hand, and against the plain definition."""

import numpy as np
import pytest
import scipy.optimize
from slideunet.errors import UserError
from slideunet.metrics import objects
from slideunet.metrics.overlap import pair_counts


def row(*labels):
    return np.array([labels])


def brute_counts(reference, prediction, iou):
    """TP, FP, FN and sum of IoU by the definition: all IoUs, then the best of all assignments."""
    ones = [label for label in np.unique(reference) if label]
    twos = [label for label in np.unique(prediction) if label]
    table = np.zeros((len(ones), len(twos)))
    for i, one in enumerate(ones):
        for j, two in enumerate(twos):
            both = ((reference == one) & (prediction == two)).sum()
            table[i, j] = both / ((reference == one) | (prediction == two)).sum()
    gain = np.where(table > iou, 1000 + table, 0)
    picked = scipy.optimize.linear_sum_assignment(gain, maximize=True)
    values = table[picked][table[picked] > iou]
    return len(values), len(twos) - len(values), len(ones) - len(values), values.sum()


def test_f1_by_hand():
    reference = row(1, 1, 1, 0, 2, 2, 0, 3)
    prediction = row(5, 5, 0, 0, 9, 0, 7, 0)
    counts = objects.object_counts(reference, prediction)
    # 5 is 2/3 of 1: a pair; 9 is half of 2, which is not more than half; 7 and 3 are alone.
    assert counts == objects.ObjectCounts(1, 2, 2, pytest.approx(2 / 3))
    assert counts.f1 == pytest.approx(2 / 6)
    assert counts.precision == counts.recall == pytest.approx(1 / 3)
    assert counts.average_precision == pytest.approx(1 / 5)
    assert counts.panoptic_quality == pytest.approx(2 / 3 * 2 / 6)


def test_identical_images_are_perfect_and_the_ids_do_not_matter():
    rng = np.random.default_rng(0)
    labels = np.kron(rng.permutation(30).reshape(5, 6), np.ones((3, 3), int))
    renamed = np.where(labels, 1000 - labels, 0)
    counts = objects.average_precisions(labels, renamed)
    assert all(each == objects.ObjectCounts(29, 0, 0, 29.0) for each in counts.values())
    assert objects.mean_average_precision(counts) == 1
    assert counts[0.5].panoptic_quality == 1


def test_thresholds_are_those_of_coco():
    thresholds = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    assert thresholds == objects.IOU_THRESHOLDS


def test_average_precision_by_hand():
    reference = np.repeat(row(1, 2), 10, axis=1)
    prediction = reference.copy()
    prediction[0, :3] = 0  # IoU 0.7 with 1
    prediction[0, 19] = 0  # IoU 0.9 with 2
    counts = objects.average_precisions(reference, prediction)
    found = {iou: each.true_positives for iou, each in counts.items()}
    assert found == {
        0.5: 2,
        0.55: 2,
        0.6: 2,
        0.65: 2,
        **dict.fromkeys((0.7, 0.75, 0.8, 0.85), 1),
        0.9: 0,
        0.95: 0,
    }
    assert objects.mean_average_precision(counts) == pytest.approx((4 + 4 / 3) / 10)


@pytest.mark.parametrize("iou", [0.0, 0.1, 0.2, 0.35, 0.5, 0.7])
def test_counts_are_those_of_the_definition_on_random_images(iou):
    rng = np.random.default_rng(3)
    for _ in range(40):
        shape = tuple(rng.integers(2, 12, 2))
        reference, prediction = rng.integers(0, rng.integers(2, 9), (2, *shape))
        counts = objects.object_counts(reference, prediction, iou)
        expected = brute_counts(reference, prediction, iou)
        assert (
            counts.true_positives,
            counts.false_positives,
            counts.false_negatives,
            counts.iou_sum,
        ) == pytest.approx(expected)


def test_low_thresholds_take_most_pairs_before_the_best_pair():
    # 1 overlaps 8 best, but then 2 would be left alone: 1 with 9 and 2 with 8 makes two pairs.
    reference = row(1, 1, 1, 1, 1, 2, 0)
    prediction = row(9, 8, 8, 8, 8, 8, 0)
    assert objects.object_counts(reference, prediction, 0.1).true_positives == 2
    assert objects.object_counts(reference, prediction, 0.5).true_positives == 1


@pytest.mark.parametrize("iou", [-0.1, 1, 1.5])
def test_a_threshold_out_of_range_is_refused(iou):
    with pytest.raises(UserError, match="IoU threshold"):
        objects.object_counts(row(1), row(1), iou)


def test_one_pixel_objects_count():
    reference = row(1, 0, 2, 0, 3)
    counts = objects.object_counts(reference, row(4, 0, 0, 5, 6))
    assert counts == objects.ObjectCounts(2, 1, 1, 2.0)


@pytest.mark.parametrize("base", [65_536, 2**31, 2**40])
def test_large_label_ids(base):
    reference = np.repeat(row(0, base, base + 1, 2 * base), 3, axis=1)
    prediction = np.repeat(row(0, 1, base + 65_536, 2**62), 3, axis=1)
    assert objects.object_counts(reference, prediction) == objects.ObjectCounts(3, 0, 0, 3.0)
    huge = reference.astype(np.uint64) + np.uint64(2**63)
    assert objects.object_counts(huge, prediction).true_positives == 3


def test_small_objects_are_nobodys_errors():
    reference = row(1, 1, 1, 0, 2, 0, 3, 3, 0, 0)
    prediction = row(1, 1, 1, 0, 0, 4, 3, 0, 0, 5)
    assert objects.object_counts(reference, prediction) == objects.ObjectCounts(1, 3, 2, 1.0)
    # 2, 4, 5 and the predicted 3 have one pixel; the reference 3 has two and stays missed.
    small = objects.object_counts(reference, prediction, min_area_px=2)
    assert small == objects.ObjectCounts(1, 0, 1, 1.0)


def test_a_predicted_object_on_a_small_one_is_no_error_and_a_small_one_may_be_right():
    reference = np.repeat(row(1, 0, 2), 9, axis=1)
    prediction = reference.copy()
    reference[0, 8] = 0  # 8 px against 9
    prediction[0, 26] = 0  # 9 px against 8
    counts = objects.object_counts(reference, prediction, min_area_px=9)
    assert counts == objects.ObjectCounts(1, 0, 0, pytest.approx(8 / 9))


def test_objects_in_ignored_pixels_do_not_count():
    reference = row(1, 1, 1, 1, 0, 0, 0, 2, 2, 2)
    prediction = row(1, 1, 0, 0, 0, 4, 4, 0, 0, 0)
    ignore = row(0, 0, 1, 1, 0, 0, 1, 0, 1, 1)
    # 1 is cut to its first half, which is found (half of it is ignored, so it counts neither way);
    # 4 is half ignored and no false positive; two thirds of 2 are ignored, so it is not missed.
    assert objects.object_counts(reference, prediction, ignore=ignore) == objects.ObjectCounts()
    ignore = row(0, 0, 0, 1, 0, 0, 0, 0, 0, 1)
    # 1 is cut to three pixels, two of them found: a pair; 4 is wrong and 2 is missed.
    expected = objects.ObjectCounts(1, 1, 1, pytest.approx(2 / 3))
    assert objects.object_counts(reference, prediction, ignore=ignore) == expected
    everything = np.ones_like(ignore)
    assert objects.object_counts(reference, prediction, ignore=everything).f1 == 1


def test_labels_hidden_by_ignore_leave_the_others_as_they_are():
    rng = np.random.default_rng(4)
    for _ in range(30):
        reference, prediction = rng.integers(0, 6, (2, 8, 8))
        ignore = rng.random((8, 8)) < 0.2
        found = objects.overlaps(reference, prediction, ignore=ignore)
        for i, one in enumerate(found.reference_ids):
            inside = ((reference == one) & ignore).sum()
            assert found.reference_aside[i] == (2 * inside >= (reference == one).sum())
        for i, j, value in zip(found.rows, found.columns, found.iou, strict=True):
            one = (reference == found.reference_ids[i]) & ~ignore
            two = (prediction == found.prediction_ids[j]) & ~ignore
            assert value == pytest.approx((one & two).sum() / (one | two).sum())


def test_counts_add_up():
    total = objects.ObjectCounts(1, 2, 3, 0.5) + objects.ObjectCounts(10, 20, 30, 8.0)
    assert total == objects.ObjectCounts(11, 22, 33, 8.5)
    assert total.f1 == 22 / 77


def test_pair_counts_are_those_of_the_definition(monkeypatch):
    monkeypatch.setattr("slideunet.metrics.overlap.BLOCK_PX", 7)
    rng = np.random.default_rng(5)
    reference, prediction = rng.integers(0, 4, (2, 9, 11)) * (2**33)
    for ignore in (None, rng.random((9, 11)) < 0.3, np.ones((9, 11), bool)):
        counted = np.ones((9, 11), bool) if ignore is None else ~ignore
        pairs = pair_counts(reference, prediction, ignore)
        ids = zip(pairs.reference_ids[pairs.rows], pairs.prediction_ids[pairs.columns], strict=True)
        got = dict(zip(ids, pairs.pixels.tolist(), strict=True))
        both = np.stack([reference[counted], prediction[counted]], axis=1)
        expected = {tuple(pair): 0 for pair in both}
        for pair in both:
            expected[tuple(pair)] += 1
        assert got == expected
        assert list(got) == sorted(got)
        assert pairs.table().sum() == counted.sum()
