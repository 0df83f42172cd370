"""Intensity constants: percentiles by their definition, of a set or of each image."""

import numpy as np
import pytest
from slideunet import normalise
from slideunet.errors import UserError

INTENSITY = {"scope": "training", "low_percentile": 1, "high_percentile": 99.8}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("percent", [0, 1, 50, 99.8, 100])
def test_percentiles_are_those_of_all_pixels_together(dtype, percent):
    random = np.random.default_rng(0)
    images = [random.gamma(2, 20, (2, *yx)).astype(dtype) for yx in ((30, 41), (17, 64))]
    percentiles = normalise.Percentiles()
    for image in images:
        percentiles.add(image)
    for channel in range(2):
        pixels = np.sort(np.concatenate([image[channel].ravel() for image in images]))
        smallest = pixels[max(0, int(np.ceil(len(pixels) * percent / 100)) - 1)]
        assert percentiles.at(percent)[channel] == smallest


def test_large_float_images_are_sampled_evenly():
    image = np.linspace(0, 1, 3 * 2**20, dtype=np.float32)[None]
    assert normalise.constants([image], INTENSITY)["low"] == pytest.approx([0.01], abs=1e-5)


def test_scope_decides_whose_constants_count():
    dark, bright = np.full((1, 4, 4), 10, np.uint8), np.full((1, 4, 4), 200, np.uint8)
    training = normalise.of_training([dark, bright], INTENSITY)
    assert training == {**INTENSITY, "low": [10.0], "high": [200.0]}
    assert normalise.for_image(bright, training) == {"low": [10.0], "high": [200.0]}
    image = normalise.of_training([dark], {**INTENSITY, "scope": "image"})
    assert "low" not in image
    assert normalise.for_image(bright, image) == {"low": [200.0], "high": [200.0]}


def test_scaling_is_per_channel_and_unclipped():
    pixels = np.array([[[10, 20, 30]], [[0, 100, 400]]], np.uint16)
    scaled = normalise.scale(pixels, {"low": [10, 0], "high": [20, 100]})
    assert scaled.dtype == np.float32
    assert scaled.tolist() == [[[0, 1, 2]], [[0, 1, 4]]]


def test_an_image_of_one_grey_value_becomes_0():
    pixels = np.full((1, 3, 3), 7, np.uint8)
    scaled = normalise.scale(pixels, normalise.for_image(pixels, {**INTENSITY, "scope": "image"}))
    assert not scaled.any()


def test_nan_and_mixed_types_are_refused():
    with pytest.raises(UserError, match="NaN"):
        normalise.constants([np.full((1, 2, 2), np.nan)], INTENSITY)
    mixed = [np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 2), np.uint16)]
    with pytest.raises(UserError, match="uint8 and of uint16"):
        normalise.constants(mixed, INTENSITY)
