"""Tiled equals whole: the whole image is computed without the tiling code (memory_slide.whole)."""

import numpy as np
import pytest
import torch
from memory_slide import network, noise, reflected, scaling, whole, whole_of_scaled
from slideunet.averaging import VIEWS, mean_over_views
from slideunet.geometry import Window
from slideunet.overlap_tile import mirrored, predict_region, prepare, read_mirrored, tile_scores

TOLERANCE = 1e-5  # float32, from the issue; equal sums in another blocking differ by 1e-7
MARGIN = 2e-5  # labels must agree wherever the best class leads by more


def tiled(net, scaled: np.ndarray, tile_px: int, averaging: str = "none") -> np.ndarray:
    height, width = scaled.shape[1:]

    def read(y, x, rows, columns):
        assert min(y, x) >= 0 and y + rows <= height and x + columns <= width
        return scaled[:, y : y + rows, x : x + columns]

    net = prepare(net, torch.device("cpu"), torch.float32)
    region = Window(0, 0, height, width)
    return predict_region(net, read, (height, width), region, tile_px, averaging).numpy()


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(found - expected).max() <= TOLERANCE
    first, second = np.sort(expected, axis=0)[[-1, -2]]
    clear = first - second > MARGIN
    assert clear.mean() > 0.95
    assert (found.argmax(0) == expected.argmax(0))[clear].all()


@pytest.mark.parametrize(
    ("depth", "height", "width", "tile_px"),
    [
        (1, 61, 47, 16),
        (2, 75, 101, 28),
        (2, 75, 101, 256),  # one tile
        (3, 117, 90, 40),
        (3, 5, 7, 64),  # far smaller than a tile and than its own context
        (2, 1, 130, 32),  # one pixel high
        (2, 90, 1, 32),
        (1, 1, 1, 2),
        (4, 100, 145, 48),
    ],
)
def test_tiled_equals_whole(depth, height, width, tile_px):
    pixels = noise(height, width)
    net = network(depth)
    assert_same(tiled(net, scaled_of(pixels), tile_px), whole(pixels, depth))


def test_six_tile_sizes_agree_with_the_whole_and_with_each_other():
    pixels = noise(150, 131)
    net = network(3)
    expected = whole(pixels, 3)
    found = [tiled(net, scaled_of(pixels), tile_px) for tile_px in (16, 24, 40, 64, 104, 152)]
    for one in found:
        assert_same(one, expected)
        assert_same(one, found[0])


def test_several_channels_and_classes():
    pixels = noise(50, 66, channels=3)
    net = network(2, channels=3, classes=4)
    assert_same(tiled(net, scaled_of(pixels), 24), whole(pixels, 2, classes=4))


def scaled_of(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / np.float32(scaling(pixels)["high"][0])


def test_origins_off_the_pooling_grid_would_change_the_answer():
    """Why steps are multiples of 2^depth: the same pixels, tiled two pixels further, differ."""
    scaled = scaled_of(noise(80, 80))
    net = network(3)
    shifted = scaled[:, 2:, 2:]
    inner = np.s_[:, 30:50, 30:50]
    a, b = tiled(net, scaled, 40)[:, 2:, 2:], tiled(net, shifted, 40)
    assert np.abs(a[inner] - b[inner]).max() > 100 * TOLERANCE


@pytest.mark.parametrize("averaging", ["rotations", "all"])
@pytest.mark.parametrize(("depth", "height", "width"), [(2, 53, 70), (3, 67, 90), (3, 1, 44)])
def test_averaging_is_exact_for_any_tiling(averaging, depth, height, width):
    scaled = scaled_of(noise(height, width))
    net = network(depth)
    expected = turned_whole(net, scaled, averaging)
    for tile_px in (24, 40, 104):
        assert_same(tiled(net, scaled, tile_px, averaging), expected)


def turned_whole(net, scaled: np.ndarray, averaging: str) -> np.ndarray:
    """The whole image, mirrored out to the pooling grid, turned as a whole, and averaged."""
    grid = 2**net.depth
    height, width = scaled.shape[1:]
    margin = 8 * grid  # more than the context, and on the grid
    around = [(0, 0), *((margin, margin + (-side) % grid) for side in (height, width))]
    wide = reflected(scaled, around)
    total = 0
    for turns, mirror in VIEWS[averaging]:
        seen = np.rot90(wide[:, :, ::-1] if mirror else wide, turns, axes=(1, 2))
        found = whole_of_scaled(net, np.ascontiguousarray(seen))
        found = np.rot90(found, -turns, axes=(1, 2))
        total = total + (found[:, :, ::-1] if mirror else found)
    mean = total / len(VIEWS[averaging])
    return mean[:, margin : margin + height, margin : margin + width]


def test_views_are_all_different_and_undone():
    pixels = torch.arange(12.0).reshape(1, 3, 4)
    seen = []

    def keep(view):
        seen.append(view.clone())
        return view

    found = mean_over_views(keep, pixels[:, :2, :2], (2, 2), depth=1, averaging="all")
    assert torch.equal(found, pixels[:, :2, :2])
    assert len({tuple(view.flatten().tolist()) for view in seen}) == 8


@pytest.mark.parametrize(
    ("start", "length", "size"), [(-9, 40, 7), (-3, 5, 30), (25, 30, 31), (0, 4, 4)]
)
def test_mirrored_is_numpys_reflect(start, length, size):
    around = np.pad(np.arange(size), (50, 50), mode="reflect")
    assert mirrored(start, length, size).tolist() == around[50 + start :][:length].tolist()


def test_mirrored_single_pixel_repeats():
    assert mirrored(-2, 5, 1).tolist() == [0] * 5


def test_read_mirrored_asks_only_for_what_exists():
    pixels = noise(20, 9, channels=2)
    asked = []

    def read(y, x, height, width):
        asked.append((y, x, height, width))
        return pixels[:, y : y + height, x : x + width]

    found = read_mirrored(read, (20, 9), Window(-6, -12, 18, 40))
    padded = np.pad(pixels, ((0, 0), (30, 30), (40, 40)), mode="reflect")
    assert np.array_equal(found, padded[:, 24:42, 28:68])
    assert asked == [(0, 0, 12, 9)]
    assert np.array_equal(read_mirrored(read, (20, 9), Window(3, 2, 4, 5)), pixels[:, 3:7, 2:7])


def test_scores_are_float32_whatever_the_precision():
    net = prepare(network(2), torch.device("cpu"), torch.bfloat16)
    scores = tile_scores(net, torch.rand(1, 60, 64))
    assert scores.dtype == torch.float32
    assert scores.shape == (2, 20, 24)
