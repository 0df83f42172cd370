"""Adapted Rand and variation of information: by hand, by counting pairs, and against skimage."""

import itertools
import math

import numpy as np
import pytest
import skimage.metrics
from slideunet.metrics.partitions import AdaptedRand, adapted_rand, variation_of_information


def count_pairs(reference, prediction):
    """Pairs of reference foreground pixels: same in both, in the prediction, in the reference."""
    pixels = [(one, two) for one, two in zip(reference.flat, prediction.flat, strict=True) if one]
    both = found = wanted = 0
    for (one, two), (other_one, other_two) in itertools.combinations(pixels, 2):
        wanted += one == other_one
        found += two == other_two
        both += one == other_one and two == other_two
    return both, found, wanted


def test_a_merger_costs_precision_and_a_split_recall():
    halves, whole = np.array([[1, 1, 2, 2]]), np.array([[7, 7, 7, 7]])
    assert adapted_rand(halves, whole) == AdaptedRand(pytest.approx(0.5), 2 / 6, 1.0)
    assert adapted_rand(whole, halves) == AdaptedRand(pytest.approx(0.5), 1.0, 2 / 6)
    assert variation_of_information(halves, whole) == pytest.approx((0, 1))
    assert variation_of_information(whole, halves) == pytest.approx((1, 0))


def test_adapted_rand_counts_pairs_of_pixels():
    rng = np.random.default_rng(6)
    for _ in range(30):
        reference, prediction = rng.integers(0, 4, (2, 5, 6))
        both, found, wanted = count_pairs(reference, prediction)
        scores = adapted_rand(reference, prediction)
        assert (scores.precision, scores.recall) == pytest.approx((both / found, both / wanted))
        assert scores.error == pytest.approx(1 - 2 * both / (found + wanted))
        ignore = rng.random((5, 6)) < 0.2
        masked = np.where(ignore, 0, reference)
        assert adapted_rand(reference, prediction, ignore) == adapted_rand(masked, prediction)


def test_variation_of_information_by_definition_and_by_skimage():
    rng = np.random.default_rng(7)
    for _ in range(30):
        reference, prediction = rng.integers(0, 4, (2, 9, 8))
        split = merge = 0.0
        for one, two in itertools.product(range(4), repeat=2):
            joint = ((reference == one) & (prediction == two)).mean()
            if joint:
                split -= joint * math.log2(joint / (reference == one).mean())
                merge -= joint * math.log2(joint / (prediction == two).mean())
        got = variation_of_information(reference, prediction)
        assert got == pytest.approx((split, merge))
        assert got == pytest.approx(
            tuple(skimage.metrics.variation_of_information(reference, prediction))
        )
        inside = reference != 0
        assert variation_of_information(
            reference, prediction, foreground_only=True
        ) == pytest.approx(
            tuple(skimage.metrics.variation_of_information(reference[inside], prediction[inside]))
        )


def test_identical_partitions_differ_by_nothing():
    labels = np.random.default_rng(8).integers(0, 50, (64, 64))
    assert adapted_rand(labels, labels + 3) == AdaptedRand(pytest.approx(0, abs=1e-12), 1, 1)
    assert variation_of_information(labels, labels + 3) == pytest.approx((0, 0), abs=1e-12)


def test_regions_of_one_pixel_make_no_pair_and_no_error():
    reference, prediction = np.array([[1, 2, 3]]), np.array([[4, 5, 6]])
    assert adapted_rand(reference, prediction) == AdaptedRand(0.0, 1.0, 1.0)
    assert adapted_rand(reference, np.array([[4, 4, 6]])) == AdaptedRand(1.0, 0.0, 1.0)


def test_label_ids_cost_no_memory():
    rng = np.random.default_rng(9)
    reference, prediction = rng.integers(0, 4, (2, 8, 8))
    far = np.where(prediction, prediction + 2**61, 0)
    assert adapted_rand(reference * 2**60, far) == adapted_rand(reference, prediction)
    assert variation_of_information(reference * 2**60, far) == pytest.approx(
        variation_of_information(reference, prediction)
    )
