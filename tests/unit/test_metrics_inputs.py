"""What the measures accept and refuse: every refusal is one line that says what to do."""

import numpy as np
import pytest
from slideunet.errors import UserError
from slideunet.metrics import celltracking, foreground, inputs, isbi, objects, partitions, pixels
from slideunet.metrics.overlap import pair_counts
from slideunet.metrics.warping import warping_counts

ZEROS = np.zeros((4, 5), np.uint8)
ONE_CELL = np.pad(np.ones((2, 2), np.uint8), ((1, 1), (1, 2)))

# Every public measure of two images.
MEASURES = [
    pixels.iou,
    pixels.dice,
    pixels.pixel_error,
    lambda one, two: pixels.confusion(one, two, 2),
    lambda one, two: pixels.f_scores(one, two, (0.5,)),
    pair_counts,
    objects.object_counts,
    objects.average_precisions,
    partitions.adapted_rand,
    partitions.variation_of_information,
    celltracking.cell_scores,
    foreground.region_sums,
    isbi.section_scores,
    warping_counts,
]


@pytest.mark.parametrize("measure", MEASURES)
def test_shapes_that_differ_are_refused_with_both_shapes(measure):
    with pytest.raises(UserError, match=r"\(4, 5\).*\(5, 4\)"):
        measure(ONE_CELL, ONE_CELL.T)


@pytest.mark.parametrize("measure", MEASURES)
def test_an_image_without_a_pixel_is_refused(measure):
    with pytest.raises(UserError, match="no pixel"):
        measure(np.zeros((0, 3), np.uint8), np.zeros((0, 3), np.uint8))


@pytest.mark.parametrize("measure", MEASURES)
def test_nan_in_the_prediction_is_refused(measure):
    broken = ONE_CELL.astype(np.float32)
    broken[0, 0] = np.nan
    with pytest.raises(UserError, match=r"nan in 1 pixels|1 NaN pixels"):
        measure(ONE_CELL, broken)


@pytest.mark.parametrize(
    "measure",
    [
        partitions.adapted_rand,
        partitions.variation_of_information,
        foreground.region_sums,
        isbi.section_scores,
        lambda one, two: celltracking.seg([(one, two)]),
    ],
)
def test_an_empty_reference_is_refused_where_the_measure_is_not_defined(measure):
    with pytest.raises(UserError, match=r"holds no (object|foreground)|holds a cell"):
        measure(ZEROS, ONE_CELL)


def test_an_empty_reference_has_a_value_where_the_measure_has_one():
    assert (pixels.iou(ZEROS, ZEROS), pixels.dice(ZEROS, ZEROS)) == (1, 1)
    assert (pixels.iou(ZEROS, ONE_CELL), pixels.dice(ZEROS, ONE_CELL)) == (0, 0)
    assert objects.object_counts(ZEROS, ZEROS).f1 == 1
    assert objects.object_counts(ZEROS, ONE_CELL).f1 == 0
    assert objects.object_counts(ZEROS, ONE_CELL).panoptic_quality == 0
    assert pixels.f_scores(ZEROS, ZEROS, (0.5,)).tolist() == [1]
    assert celltracking.cell_scores(ZEROS, ONE_CELL) == {}
    # Nothing can grow where there is nothing: all four pixels of the cell stay missing.
    counts = warping_counts(ZEROS, ONE_CELL.astype(bool))
    assert (counts.mismatches, counts.object_additions) == (4, 4)


def test_labels_keep_their_values():
    for dtype in (np.uint8, np.int16, np.int64, np.uint64, np.float32, np.float64):
        image = np.array([[0, 7], [100, 7]], dtype)
        assert inputs.label_image(image, "reference").tolist() == [[0, 7], [100, 7]]
    assert inputs.label_image(np.array([2**63 + 5], np.uint64), "reference")[0] == 2**63 + 5
    assert inputs.label_image(np.array([70_000.0, 2.0**53]), "reference").tolist() == [
        70_000,
        2**53,
    ]
    assert inputs.label_image(np.array([True, False]), "reference").tolist() == [1, 0]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.array([[-1, 2]]), "negative label -1"),
        (np.array([[0.5, 1.0]]), "holds 0.5 in 1 pixels"),
        (np.array([[-1.0, 1.0]]), "holds -1.0"),
        (np.array([[np.inf, 1.0]]), "holds inf"),
        (np.array([[2.0**54, 1.0]]), "2[*][*]53"),
        (np.array([["a", "b"]]), "holds <U1"),
        (np.array([[1j, 0]]), "holds complex128"),
    ],
)
def test_what_is_no_label_image_is_refused(image, reason):
    with pytest.raises(UserError, match=reason):
        inputs.label_image(image, "reference")
    with pytest.raises(UserError, match=reason):
        inputs.mask(image, "reference")


def test_float_masks_count_like_masks():
    cell = ONE_CELL.astype(bool)
    shifted = np.roll(cell, 1, axis=1)
    assert pixels.iou(cell, shifted) == pytest.approx(1 / 3)
    assert pixels.iou(cell.astype(np.float32), shifted.astype(np.float64)) == pytest.approx(1 / 3)
    assert pixels.iou(cell * np.uint8(255), shifted.astype(np.float64)) == pytest.approx(1 / 3)


def test_probabilities_are_float32_from_0_to_1():
    assert inputs.probability(np.array([0, 51, 255], np.uint8), "p").tolist() == pytest.approx(
        [0, 0.2, 1], abs=1e-7
    )
    assert inputs.probability(np.array([True]), "p").dtype == np.float32
    for image, reason in (
        (np.array([1.5, 0]), "from 0.0 to 1.5"),
        (np.array([-0.1, 0]), "from -0.1"),
        (np.array([0.1, np.nan, np.nan]), "2 NaN pixels"),
        (np.array([0, 1], np.int32), "holds int32"),
    ):
        with pytest.raises(UserError, match=reason):
            inputs.probability(image, "p")


def test_ignored_pixels_may_hold_anything():
    reference = np.array([[1, 1, -1, 0]])
    prediction = np.array([[1.0, 0.0, np.nan, 0.0]])
    ignore = np.array([[False, False, True, False]])
    assert pixels.iou(reference, prediction, ignore) == 0.5
    assert pixels.pixel_error(reference, prediction, ignore) == pytest.approx(1 / 3)
    classes = pixels.confusion(np.array([[1, 1, 255, 0]]), np.array([[1, 0, 1, 0]]), 2, ignore)
    assert classes.tolist() == [[1, 0], [1, 1]]
    assert objects.object_counts(reference, prediction, 0.4, ignore=ignore).true_positives == 1
    scores = pixels.f_scores(np.maximum(reference, 0), prediction, (0.5,), ignore)
    assert scores.tolist() == pytest.approx([2 / 3])
    # ... but only there
    with pytest.raises(UserError, match="negative label"):
        pixels.iou(reference, prediction, ~ignore)


def test_an_ignore_mask_of_another_shape_is_refused():
    with pytest.raises(UserError, match="ignore mask has shape"):
        pixels.iou(ZEROS, ZEROS, np.zeros((5, 4), bool))


def test_nothing_left_to_count_is_refused_where_a_share_is_asked_for():
    with pytest.raises(UserError, match="no pixel counts"):
        pixels.pixel_error(ONE_CELL, ONE_CELL, np.ones_like(ONE_CELL))
    with pytest.raises(UserError, match="holds no object"):
        partitions.adapted_rand(ONE_CELL, ONE_CELL, np.ones_like(ONE_CELL))


def test_stacks_are_refused_where_sections_are_measured():
    with pytest.raises(UserError, match="3 axes"):
        isbi.section_scores(ONE_CELL[None], ONE_CELL[None])
    with pytest.raises(UserError, match="3 axes"):
        warping_counts(ONE_CELL[None], ONE_CELL[None])
