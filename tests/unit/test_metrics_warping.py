"""The warping error: against whole passes over all differing pixels, and by hand."""

import numpy as np
import pytest
import scipy.ndimage
from slideunet.metrics.warping import WarpingCounts, classify, warp, warping_counts

EIGHT = np.ones((3, 3), int)


def is_simple(patch):
    """Bertrand and Malandain's two topological numbers of a 3 x 3 patch, both one."""
    around = patch.copy()
    around[1, 1] = False
    cells, _ = scipy.ndimage.label(around)
    by_edge = {cells[0, 1], cells[1, 0], cells[1, 2], cells[2, 1]} - {0}
    gaps = ~patch
    gaps[1, 1] = False
    return len(by_edge) == 1 and scipy.ndimage.label(gaps, EIGHT)[1] == 1


def warp_in_passes(reference, target, priority):
    """The official loop: pass over all differing pixels, largest priority first, until none flips.

    Equal ones column by column.
    """
    source = np.pad(reference, 1)
    target = np.pad(target, 1)
    while True:
        x, y = np.nonzero((source != target).T)
        order = np.argsort(-priority[y - 1, x - 1], kind="stable")
        flipped = 0
        for row, column in zip(y[order], x[order], strict=True):
            if is_simple(source[row - 1 : row + 2, column - 1 : column + 2]):
                source[row, column] ^= True
                flipped += 1
        if not flipped:
            return source[1:-1, 1:-1]


def kinds_one_by_one(warped, target, radius):
    """The official classification, a pixel at a time."""
    kinds = {}
    objects, _ = scipy.ndimage.label(warped)
    height, width = warped.shape
    for y, x in zip(*np.nonzero(warped != target), strict=True):
        near = [(y + i - 1, x + j - 1) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
        inside = {objects[v, u] for v, u in near if 0 <= v < height and 0 <= u < width}
        white = bool(warped[y, x])
        if inside == {0}:
            kind = "object_deletions" if white else "object_additions"
        elif len(inside) == 1:
            kind = "hole_additions" if white else "hole_deletions"
        elif len(inside) > 2:
            kind = "splits" if white else "mergers"
        elif not white:
            kind = "hole_additions"
        else:
            without = np.pad(warped, radius)[y : y + 2 * radius + 1, x : x + 2 * radius + 1].copy()
            without[radius, radius] = False
            parts, _ = scipy.ndimage.label(without)
            around = np.unique(parts[radius - 1 : radius + 2, radius - 1 : radius + 2])
            ring = np.delete(parts[radius - 1 : radius + 2, radius - 1 : radius + 2].ravel(), 4)
            assert set(ring) <= set(around)
            kind = "splits" if len(set(ring)) > 2 else "hole_deletions"
        kinds[kind] = kinds.get(kind, 0) + 1
    return WarpingCounts(**kinds)


def random_pairs(count, seed, size=24):
    """Blobs and the same blobs disturbed, with a priority that has many ties."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        shape = tuple(rng.integers(3, size, 2))
        field = scipy.ndimage.gaussian_filter(rng.standard_normal(shape), 1)
        other = field + 0.3 * scipy.ndimage.gaussian_filter(rng.standard_normal(shape), 0.7)
        yield field > 0, other > 0, rng.integers(0, 4, shape).astype(np.float32)


def test_the_queue_flips_what_whole_passes_flip():
    changed = 0
    for reference, target, priority in random_pairs(40, seed=11):
        warped = warp(reference, target, priority)
        assert (warped == warp_in_passes(reference, target, priority)).all()
        changed += (warped != reference).sum()
    assert changed > 500  # the images do differ


def test_warping_keeps_the_topology_and_only_moves_towards_the_target():
    for reference, target, priority in random_pairs(40, seed=12):
        warped = warp(reference, target, priority)
        assert (warped == target)[reference == target].all()
        for image in (warped, reference):
            assert image.dtype == bool
        cells = [scipy.ndimage.label(np.pad(image, 1))[1] for image in (warped, reference)]
        gaps = [scipy.ndimage.label(~np.pad(image, 1), EIGHT)[1] for image in (warped, reference)]
        assert cells[0] == cells[1]
        assert gaps[0] == gaps[1]


def test_a_border_that_moved_is_no_error():
    reference = np.zeros((20, 30), bool)
    reference[3:17, 4:12] = reference[3:17, 14:26] = True
    moved = np.zeros((20, 30), bool)
    moved[2:15, 3:14] = moved[2:15, 16:28] = True
    assert warping_counts(reference, moved) == WarpingCounts()


def test_a_gap_across_a_cell_is_splits_and_a_bridge_is_mergers():
    cell = np.zeros((20, 31), bool)
    cell[3:17, 2:29] = True
    parted = cell.copy()
    parted[:, 15] = False
    split = warping_counts(cell, parted)
    assert split.splits > 0
    assert split.mismatches == split.splits
    merge = warping_counts(parted, cell)
    assert merge.mergers > 0
    assert merge.mismatches == merge.mergers


def test_holes_and_objects_that_come_or_go_are_neither_splits_nor_mergers():
    cell = np.zeros((15, 15), bool)
    cell[3:12, 3:12] = True
    holed = cell.copy()
    holed[7, 7] = False
    assert warping_counts(cell, holed) == WarpingCounts(hole_additions=1)
    assert warping_counts(holed, cell) == WarpingCounts(hole_deletions=1)
    extra = cell.copy()
    extra[13, 13] = True
    assert warping_counts(cell, extra) == WarpingCounts(object_additions=1)
    assert warping_counts(extra, cell) == WarpingCounts(object_deletions=1)


@pytest.mark.parametrize("radius", [1, 3])
def test_classification_is_the_one_by_one_rule(radius):
    seen = WarpingCounts()
    for reference, target, priority in random_pairs(60, seed=13):
        warped = warp(reference, target, priority)
        got = classify(warped, target, radius)
        assert got == kinds_one_by_one(warped, target, radius)
        assert got.mismatches == (warped != target).sum()
        seen = WarpingCounts(
            *(a + b for a, b in zip(vars(seen).values(), vars(got).values(), strict=True))
        )
    assert all(vars(seen).values())  # every kind occurred


@pytest.mark.parametrize(("height", "kind"), [(12, "hole_deletions"), (20, "splits")])
def test_a_radius_beyond_the_image_means_the_whole_image(height, kind):
    # A loop of 56 px: within 20 px of the cut nothing joins its ends, in the whole image they are.
    loop = np.zeros((height, 60), bool)
    loop[2:-2, 2:-2] = True
    loop[3:-3, 3:-3] = False
    cut = loop.copy()
    cut[2, 30] = False
    assert classify(loop, cut, 20) == WarpingCounts(**{kind: 1})


def test_classification_of_pixels_at_the_edge():
    for reference, target, _ in random_pairs(40, seed=14):
        assert classify(reference, target, 2) == kinds_one_by_one(reference, target, 2)


def test_the_surest_pixels_are_flipped_first():
    # One pixel wide: the cell can only be shortened from its ends.
    reference = np.ones((1, 5), bool)
    target = np.array([[False, True, True, True, False]])
    assert (warp(reference, target, np.ones((1, 5))) == target).all()
    # Two cells, one gap: whichever pixel is tried last would close it and stays.
    reference = np.array([[True, False, False, True]])
    target = np.ones((1, 4), bool)
    for priority, gap in (([0, 2, 1, 0], 2), ([0, 1, 2, 0], 1), ([0, 1, 1, 0], 2)):
        warped = warp(reference, target, np.array([priority], np.float32))
        assert np.flatnonzero(~warped).tolist() == [gap]


def test_the_prediction_is_foreground_above_the_threshold():
    reference = np.zeros((9, 9), bool)
    reference[2:7, 2:7] = True
    probability = reference * np.float32(0.5)
    assert warping_counts(reference, probability, 0.4) == WarpingCounts()
    assert warping_counts(reference, probability, 0.5).object_deletions == 1
