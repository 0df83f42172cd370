"""Polygons on the pixel grid: the pixels an outline holds, exactly and for any crop alike."""

import numpy as np
import pytest
from shapely import contains_xy
from shapely.geometry import Polygon
from skimage.draw import polygon2mask
from slideunet import polygons
from slideunet.errors import UserError
from slideunet.polygons import Outline, inside, mask, moved, paint


def box(y, x, height, width):
    return np.array([(y, x), (y, x + width), (y + height, x + width), (y + height, x)], float)


def star(seed, count=30, centre=(40, 50), radius=35):
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, count))
    r = rng.uniform(0.3, 1, count) * radius
    return np.stack([centre[0] + r * np.sin(angle), centre[1] + r * np.cos(angle)], axis=1)


@pytest.mark.parametrize("seed", range(5))
def test_pixels_are_those_whose_centres_lie_inside(seed):
    ring = star(seed)
    y, x = np.mgrid[:80, :100] + 0.5
    expected = contains_xy(Polygon(ring[:, ::-1]), x, y)
    assert np.array_equal(inside(ring, 0, 0, 80, 100), expected)
    assert np.array_equal(expected, polygon2mask((80, 100), ring - 0.5))
    assert np.array_equal(inside(ring[::-1], 0, 0, 80, 100), expected)  # either way round


def test_a_box_along_pixel_edges_holds_exactly_its_pixels():
    held = inside(box(2, 3, 4, 5), 0, 0, 10, 10)
    assert held.sum() == 20
    assert held[2:6, 3:8].all()


def test_outlines_that_share_an_edge_neither_overlap_nor_leave_a_gap():
    # The shared, slanting edge runs through pixel centres.
    left = np.array([(0.5, 0.5), (0.5, 10.5), (20.5, 15.5), (20.5, 0.5)])
    right = np.array([(0.5, 10.5), (0.5, 25.5), (20.5, 25.5), (20.5, 15.5)])
    held = inside(left, 0, 0, 30, 30).astype(int) + inside(right, 0, 0, 30, 30)
    assert held.max() == 1
    assert held.sum() == 20 * 25


def test_a_window_is_a_crop_of_the_whole():
    ring = star(7) + 0.37
    whole = inside(ring, 0, 0, 80, 100)
    assert np.array_equal(inside(ring, 13, 29, 40, 37), whole[13:53, 29:66])
    canvas = np.zeros((40, 37), bool)
    paint([Outline("", ((ring,),))], [1], canvas, (13, 29))
    assert np.array_equal(canvas, whole[13:53, 29:66])


def test_a_loop_closed_twice_stays_inside():
    # A hand-drawn ring whose end overlaps its beginning: the overlap is enclosed twice.
    ring = np.concatenate([box(1, 1, 8, 8), box(1, 1, 8, 8)])
    assert inside(ring, 0, 0, 10, 10).sum() == 64


def test_holes_parts_and_islands():
    part = (box(0, 0, 10, 10), box(2, 2, 6, 6))
    island = (box(4, 4, 2, 2),)
    assert mask([Outline("", (part, island))], (12, 12)).sum() == 100 - 36 + 4
    assert Outline("", (part, island)).area_px == 100 - 36 + 4


def test_smaller_outlines_lie_on_top_whatever_the_order():
    large, small = Outline("", ((box(0, 0, 8, 8),),)), Outline("", ((box(2, 2, 3, 3),),))
    for pair in ([large, small], [small, large]):
        canvas = np.zeros((8, 8), int)
        paint(pair, [1 if o is large else 2 for o in pair], canvas)
        assert (canvas == 2).sum() == 9
        assert (canvas == 1).sum() == 55
    canvas = np.zeros((8, 8), int)
    paint([small, small], [1, 2], canvas)  # of equals the later
    assert set(np.unique(canvas)) == {0, 2}


def test_moved_scales_and_shifts():
    outline = moved([Outline("a", ((box(2, 4, 2, 2),),), 3)], offset_yx=(1, -2), factor=0.5)[0]
    assert outline.name == "a"
    assert outline.number == 3
    assert np.array_equal(outline.parts[0][0], box(2, 0, 1, 1))


def test_an_outline_that_zigzags_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(polygons, "CROSSINGS_MAX", 100)
    zigzag = np.array([(50 * (i % 2), i) for i in range(10)], float)
    with pytest.raises(UserError, match="zigzags"):
        inside(zigzag, 0, 0, 60, 60)
