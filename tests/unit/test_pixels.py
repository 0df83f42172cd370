"""Pixels as tensors against numpy."""

import numpy as np
import pytest
import torch
from slideunet.geometry import Window
from slideunet.overlap_tile import mirrored
from slideunet.pixels import Pixels, as_float, crop_mirrored, kept_dtype, runs


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(20, 33), (1, 7), (6, 1), (2, 3)])
def test_crops_are_mirrored_as_numpy_does(dtype, shape):
    rng = np.random.default_rng(0)
    image = (rng.random((2, *shape)) * 65535).astype(dtype)
    around = image
    for axis in (1, 2):
        pad = [(0, 0)] * 3
        pad[axis] = (40, 40)
        around = np.pad(around, pad, mode="edge" if image.shape[axis] == 1 else "reflect")
    pixels = Pixels(torch.from_numpy(image), 0, 0)
    for window in (Window(-7, -9, 30, 50), Window(-40, 0, 20, 3), Window(0, 0, 1, 1)):
        found = as_float(crop_mirrored(pixels, window, shape)).numpy()
        expected = around[:, window.y + 40 :, window.x + 40 :][:, : window.height, : window.width]
        assert np.array_equal(found, expected.astype(np.float32))


def test_the_part_in_memory_need_not_be_the_whole():
    image = np.arange(600, dtype=np.uint16).reshape(1, 20, 30) + 65000
    part = Pixels(torch.from_numpy(image[:, 10:, 15:].copy()), 10, 15)
    found = as_float(crop_mirrored(part, Window(12, 20, 12, 15), (20, 30))).numpy()
    padded = np.pad(image, ((0, 0), (0, 9), (0, 9)), mode="reflect")
    assert np.array_equal(found, padded[:, 12:24, 20:35])


def test_runs_are_the_indices():
    rng = np.random.default_rng(0)
    for _ in range(300):
        size, start, length = (int(rng.integers(*r)) for r in ((1, 20), (-50, 50), (1, 60)))
        index = mirrored(start, length, size)
        found = []
        for low, count, backwards in runs(index):
            found += list(range(low, low + count))[:: -1 if backwards else 1]
        assert found == index.tolist()
    assert runs(mirrored(-5, 30, 100)) == [(0, 6, True), (1, 24, False)]


def test_floats_are_copies():
    values = torch.ones(1, 2, 2)
    as_float(values).zero_()
    assert values.all()


def test_other_types_are_kept_as_float32():
    names = ["uint8", "uint16", "int16", "uint32", "float64", "float32"]
    kept = [kept_dtype(np.dtype(name)).name for name in names]
    assert kept == ["uint8", "uint16", "float32", "float32", "float32", "float32"]
