"""Tile arithmetic against a walk through the network's layers, and against brute force."""

import ast
import random
from pathlib import Path

import pytest
from slideunet import geometry
from slideunet.geometry import Window

DEPTHS = range(1, 6)


def walk(side: int, depth: int) -> int | None:
    """Output side of a tile, layer by layer (figure 1); None where a pooling does not halve."""
    for _ in range(depth):
        side -= 4
        if side <= 0 or side % 2:
            return None
        side //= 2
    side -= 4
    for _ in range(depth):
        side = 2 * side - 4
    return side if side > 0 else None


@pytest.mark.parametrize("depth", DEPTHS)
def test_admitted_sizes_are_those_that_the_layers_admit(depth):
    for side in range(1, 900):
        output = walk(side, depth)
        assert geometry.is_admitted(side, depth) == (output is not None), side
        if output is not None:
            assert geometry.output_px(side, depth) == output
            assert geometry.lost_px(depth) == side - output
            assert 2 * geometry.context_px(depth) == side - output


def test_the_papers_tile():
    assert geometry.output_px(572, 4) == 388
    assert geometry.context_px(4) == 92
    assert geometry.input_px_for(388, 4) == 572
    assert geometry.input_px_for(384, 4) == 572
    assert geometry.input_px_for(389, 4) == 588


@pytest.mark.parametrize("depth", DEPTHS)
def test_nearest_admitted_sizes(depth):
    admitted = [side for side in range(1, 1200) if walk(side, depth)]
    for side in range(1, 900):
        below, above = geometry.nearest_admitted(side, depth)
        assert below == max([a for a in admitted if a <= side], default=admitted[0])
        assert above == min(a for a in admitted if a >= side)


def test_a_size_that_is_not_admitted_names_its_neighbours():
    with pytest.raises(ValueError, match="take 572 or 588 px"):
        geometry.output_px(580, 4)
    with pytest.raises(ValueError, match="take 384 or 400 px"):
        geometry.check_tile_px(388, 4)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_input_window_is_admitted_and_reaches_all_context(depth, symmetric):
    grid, context = geometry.grid_px(depth), geometry.context_px(depth)
    for height, width in ((1, grid), (grid + 1, 3 * grid), (5 * grid - 1, 2)):
        tile = Window(4 * grid, 7 * grid, height, width)
        window = geometry.input_window(tile, depth, symmetric)
        slack = geometry.slack_px(depth) if symmetric else 0
        assert (window.y, window.x) == (tile.y - context - slack, tile.x - context - slack)
        for start, side, length in (
            (tile.y - window.y, tile.height, window.height),
            (tile.x - window.x, tile.width, window.width),
        ):
            assert geometry.output_px(length - slack, depth) >= side
            assert length >= start + side + context
        if symmetric:  # as much behind the rounded tile as before it
            rounded = geometry.padded_to_grid(height, depth)
            assert window.y_end - (tile.y + rounded) == tile.y - window.y


def test_tiles_hold_each_pixel_once_and_begin_on_the_grid():
    for region, tile_px in ((Window(0, 0, 37, 53), 8), (Window(16, 64, 1, 200), 24)):
        seen = {}
        for tile in geometry.tiles(region, tile_px, depth=3):
            assert tile.y % 8 == 0 and tile.x % 8 == 0
            for y in range(tile.y, tile.y_end):
                for x in range(tile.x, tile.x_end):
                    seen[y, x] = seen.get((y, x), 0) + 1
        assert set(seen.values()) == {1}
        assert len(seen) == region.height * region.width


def test_tiles_refuse_what_is_off_the_grid():
    with pytest.raises(ValueError, match="no multiple"):
        next(geometry.tiles(Window(0, 0, 50, 50), 12, depth=3))
    with pytest.raises(ValueError, match="off the grid"):
        next(geometry.tiles(Window(4, 0, 50, 50), 16, depth=3))


def test_cover_is_the_union_in_disjoint_windows():
    rng = random.Random(0)
    for _ in range(200):
        windows = [
            Window(rng.randrange(12), rng.randrange(12), rng.randrange(1, 9), rng.randrange(1, 9))
            for _ in range(rng.randrange(1, 6))
        ]
        union = [pixel for window in windows for pixel in pixels_of(window)]
        covered = [pixel for window in geometry.cover(windows) for pixel in pixels_of(window)]
        assert sorted(covered) == sorted(set(union))


def test_cover_of_overlapping_tiles_is_one_window():
    windows = [Window(y, x, 60, 60) for y in (0, 40, 80) for x in (0, 40)]
    assert geometry.cover(windows) == [Window(0, 0, 140, 100)]


def pixels_of(window: Window) -> list:
    return [(y, x) for y in range(window.y, window.y_end) for x in range(window.x, window.x_end)]


def test_intersection_and_bounding():
    a, b = Window(0, 0, 10, 10), Window(5, 8, 10, 10)
    assert geometry.intersection(a, b) == Window(5, 8, 5, 2)
    assert geometry.intersection(a, Window(10, 0, 1, 1)) is None
    assert geometry.bounding([a, b]) == Window(0, 0, 15, 18)


def test_level_shapes_halve_rounding_up():
    assert geometry.level_shapes(1025, 300, 256) == [(1025, 300), (513, 150), (257, 75), (129, 38)]
    assert geometry.level_shapes(256, 1, 256) == [(256, 1)]


def test_geometry_needs_the_standard_library_alone():
    tree = ast.parse(Path(geometry.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))
    assert imported <= {"collections.abc", "itertools", "typing"}
