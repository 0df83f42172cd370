"""Instances found block by block are those of the whole image."""

import numpy as np
import pytest
import zarr
from made_objects import blobs, label, label_whole
from scipy import ndimage
from slideunet.blocks import Block, bands, ordered_map, read_window
from slideunet.components import Scan, border_lines, describe_parts, label_block
from slideunet.errors import SlideError
from slideunet.joining import groups_of
from slideunet.labels import Rules, find_instances, label_dtype, write_instances
from slideunet.probability import ThresholdedClasses
from slideunet.seams import Seams
from slideunet.seeds import Split

SIZES = (2, 5, 7, 16, 1000)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("classes", [1, 2])
def test_equals_whole_image_for_any_block_size(connectivity, classes):
    for seed in range(6):
        shape = tuple(np.random.default_rng(seed).integers(1, 34, 2))
        found = blobs(seed, shape, classes, ignored=0.05 * (seed % 2))
        wanted = label_whole(found, connectivity)
        for block_px in SIZES:
            instances, labels = label(found, Rules(connectivity), block_px)
            np.testing.assert_array_equal(labels, wanted)
            assert labels.dtype == np.uint32
            np.testing.assert_array_equal(instances.area_px, np.bincount(wanted.ravel())[1:])
            ids, first = np.unique(wanted, return_index=True)
            np.testing.assert_array_equal(instances.first_px, first[ids > 0])
            np.testing.assert_array_equal(instances.class_of, found.ravel()[first[ids > 0]])
            last = [np.flatnonzero(wanted.ravel() == i)[-1] for i in ids[ids > 0]]
            np.testing.assert_array_equal(instances.last_px, last)
            np.testing.assert_array_equal(instances.last_row, np.array(last, int) // shape[1])


def test_spiral_through_all_blocks_is_one_object():
    spiral = np.ones((33, 33), np.uint8)
    spiral[1::2, :] = 0
    spiral[1::4, -1] = 1
    spiral[3::4, 0] = 1
    for block_px in (1, 5, 16):
        instances, labels = label(spiral, Rules(4), block_px)
        assert len(instances) == 1
        np.testing.assert_array_equal(labels, spiral)


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_change_nothing(workers, tmp_path):
    found = blobs(5, (150, 170), 2)
    _, wanted = label(found, Rules(fill_holes_px=9))
    instances = find_instances(found, Rules(fill_holes_px=9), block_px=32, workers=workers)
    target = zarr.create_array(
        store=str(tmp_path / "l.zarr"), shape=found.shape, chunks=(16, 16), shards=(32, 32),
        dtype=instances.dtype,
    )  # fmt: skip
    write_instances(instances, found, target, workers=workers)
    np.testing.assert_array_equal(target[:], wanted)


def test_workers_must_not_share_a_shard(tmp_path):
    found = blobs(5, (60, 60))
    instances = find_instances(found, block_px=20)
    target = zarr.create_array(
        store=str(tmp_path / "l.zarr"), shape=found.shape, chunks=(32, 32), dtype="uint32"
    )
    with pytest.raises(ValueError, match="lose chunks"):
        write_instances(instances, found, target, workers=2)


def test_second_pass_goes_on_where_it_stopped():
    found = blobs(2, (50, 70))
    instances, wanted = label(found, block_px=16)
    labels = np.zeros(found.shape, np.uint32)
    write_instances(instances, found, labels, blocks=range(7))
    assert not np.array_equal(labels, wanted)
    write_instances(instances, found, labels, blocks=range(7, len(instances.offsets) - 1))
    np.testing.assert_array_equal(labels, wanted)


@pytest.mark.parametrize("first_id", [65_530, 2**24 - 3, 2**31 - 2, 2**32 - 3, 2**53 + 1])
def test_no_number_is_too_large(first_id):
    found = blobs(3, (40, 40))
    wanted = label_whole(found, 8).astype(np.uint64)
    wanted[wanted > 0] += np.uint64(first_id - 1)
    instances, labels = label(found, Rules(first_id=first_id), block_px=16)
    assert len(instances) > 5
    assert instances.dtype == (np.uint64 if first_id > 2**31 else np.uint32)
    np.testing.assert_array_equal(labels.astype(np.uint64), wanted)
    np.testing.assert_array_equal(instances.ids, np.unique(labels)[1:])


def test_label_type():
    assert label_dtype(0) == label_dtype(2**32 - 1) == np.uint32
    assert label_dtype(2**32) == np.uint64


def test_provisional_numbers_and_pixels_beyond_32_bits():
    # A slide of 3e9 x 3e9 whose last two blocks only are looked at, after 2^33 other components.
    width, offset = 3_000_000_000, 2**33
    blocks = [Block(8, 0, width - 6, 3, width - 3), Block(9, 0, width - 3, 3, width)]
    seams = Seams(6, 8, holes=False, split=False)
    seams.parts = offset
    row = np.ones((3, 3), np.uint8)
    for number, block in enumerate(blocks):
        parts = describe_parts(label_block(row, 8), row, block, width)
        assert parts.first_px[0] == block.x0
        assert parts.last_px[0] == 2 * width + block.x1 - 1
        near = Block(number, 0, 3 * number, 3, 3 * number + 3)
        seams.add(Scan(near, parts, border_lines({"id": row, "class": row})))
    np.testing.assert_array_equal(seams.pairs("joins"), [[offset + 1, offset + 2]])


def test_groups_are_named_by_their_smallest_number():
    pairs = np.array([[9, 4], [4, 7], [2, 3]], np.int64)
    np.testing.assert_array_equal(groups_of(pairs, 9), [0, 1, 2, 2, 4, 5, 6, 4, 8, 4])
    np.testing.assert_array_equal(groups_of(np.empty((0, 2), np.int64), 2), [0, 1, 2])


def test_area_limits_count_whole_objects():
    found = blobs(8, (60, 60))
    whole = label_whole(found, 4)
    area = np.bincount(whole.ravel())
    low, high = np.quantile(area[1:], [0.3, 0.8], method="nearest")
    assert low > 1
    kept = (area >= low) & (area <= high)
    kept[0] = False
    wanted = (np.cumsum(kept) * kept)[whole]
    for block_px in (5, 17):
        _, labels = label(found, Rules(4, min_area_px=low, max_area_px=high), block_px)
        np.testing.assert_array_equal(labels, wanted)


def fill_whole(classes, connectivity: int, limit_px: int) -> np.ndarray:
    """Each background component on its own: filled if it touches one object and no edge."""
    labels = label_whole(classes, connectivity)
    structure = np.ones((3, 3)) if connectivity == 4 else None
    holes, count = ndimage.label((classes == 0) | (classes == 255), structure)
    filled = labels.copy()
    for number in range(1, count + 1):
        hole = holes == number
        rim = hole[0].any() or hole[-1].any() or hole[:, 0].any() or hole[:, -1].any()
        around = np.setdiff1d(labels[ndimage.binary_dilation(hole)], [0])
        if not rim and hole.sum() <= limit_px and len(around) == 1 and (classes[hole] == 0).all():
            filled[hole] = around[0]
    return filled


@pytest.mark.parametrize("connectivity", [4, 8])
def test_holes_across_blocks(connectivity):
    changed = 0
    for seed in range(6):
        ignored = 0.02 * (seed % 3)
        found = blobs(seed, (25, 28), 1 + seed % 2, ignored, background=(0.1, 0.3))
        limit = 1 + 2 * seed
        wanted = fill_whole(found, connectivity, limit)
        changed += (wanted != label_whole(found, connectivity)).sum()
        for block_px in (5, 7, 100):
            instances, labels = label(found, Rules(connectivity, fill_holes_px=limit), block_px)
            np.testing.assert_array_equal(labels, wanted)
            np.testing.assert_array_equal(instances.area_px, np.bincount(labels.ravel())[1:])
    assert changed > 10


def two_discs(distance: int) -> np.ndarray:
    y, x = np.mgrid[:60, :90]
    centres = ((30, 30), (30, 30 + distance))
    return np.any([(y - cy) ** 2 + (x - cx) ** 2 < 14**2 for cy, cx in centres], axis=0).astype(
        np.uint8
    )


@pytest.mark.parametrize("by", ["distance", "probability"])
def test_touching_discs_are_parted(by):
    found = two_discs(24)
    near = ndimage.gaussian_filter(ndimage.distance_transform_edt(found), 1)
    inside = (near / near.max() * 255).astype(np.uint8)
    probabilities = np.stack([255 - inside, inside])
    split = Split(by, min_depth=1 if by == "distance" else 0.1)
    instances, labels = label(found, Rules(split=split), probabilities=probabilities)
    assert len(instances) == 2
    assert labels[30, 20] == labels[30, 30] != labels[30, 54] == labels[30, 64]
    assert abs(np.subtract(*instances.area_px)) < 30
    assert (labels > 0).sum() == found.sum()


def test_one_convex_object_is_not_parted():
    y, x = np.mgrid[:60, :90]
    oval = (((y - 30) / 12) ** 2 + ((x - 45) / 40) ** 2 < 1).astype(np.uint8)
    assert len(find_instances(oval, Rules(split=Split()))) == 1
    waist = two_discs(12)
    assert len(find_instances(waist, Rules(split=Split(min_depth=0.1)))) == 2
    assert len(find_instances(waist, Rules(split=Split(min_depth=2)))) == 1


@pytest.mark.parametrize("by", ["distance", "probability"])
@pytest.mark.parametrize("connectivity", [4, 8])
def test_parting_is_the_same_for_any_block_size(by, connectivity):
    parted = 0
    for seed in range(2):
        found = np.maximum(two_discs(20), blobs(seed, (60, 90), 2) * (seed > 0))
        smooth = ndimage.gaussian_filter(np.random.default_rng(seed).random((3, 60, 90)), (0, 2, 2))
        probabilities = (smooth * 255).astype(np.uint8)
        split = Split(by, 0.5 if by == "distance" else 0.02, reach_px=9)
        rules = Rules(connectivity, split=split, fill_holes_px=4)
        whole, wanted = label(found, rules, probabilities=probabilities)
        parted += len(whole) - len(find_instances(found, Rules(connectivity)))
        for block_px in (11, 33):
            _, labels = label(found, rules, block_px, probabilities=probabilities)
            np.testing.assert_array_equal(labels, wanted)
    assert parted > 2


def test_threshold_of_probabilities():
    probabilities = np.array([[[200, 90]], [[30, 100]], [[25, 65]]], np.uint8)
    classes = ThresholdedClasses(probabilities, 0.6)
    assert classes.shape == (1, 2)
    np.testing.assert_array_equal(classes[0:1, 0:2], [[0, 1]])


def test_probabilities_that_are_no_numbers_are_refused():
    probabilities = np.full((2, 40, 40), 0.5, np.float32)
    probabilities[1, 33, 21] = np.nan
    with pytest.raises(SlideError, match=r"nan for class 1 at y=33, x=21"):
        find_instances(ThresholdedClasses(probabilities, 0.5), block_px=16)


def test_empty_and_full_slides():
    for value, count in ((0, 0), (255, 0), (1, 1)):
        instances, labels = label(np.full((30, 41), value, np.uint8), Rules(4), 8)
        assert len(instances) == count
        assert labels.dtype == np.uint32 and (labels == count).all()
    assert len(find_instances(np.zeros((0, 5), np.uint8))) == 0


def test_bad_input_is_named():
    found = blobs(1, (20, 20))
    with pytest.raises(SlideError, match=r"\(20, 20\) float32; it must be \(Y, X\) uint8"):
        find_instances(found.astype(np.float32))
    instances = find_instances(found)
    with pytest.raises(SlideError, match=r"label image is \(20, 21\)"):
        write_instances(instances, found, np.zeros((20, 21), np.uint32))
    with pytest.raises(SlideError, match="uint8: .* objects need uint32"):
        write_instances(instances, found, np.zeros((20, 20), np.uint8))
    with pytest.raises(SlideError, match="changed between the passes"):
        write_instances(instances, 1 - found % 2, np.zeros((20, 20), np.uint32))
    with pytest.raises(SlideError, match=r"probabilities are \(2, 9, 9\)"):
        find_instances(found, Rules(split=Split("probability")), probabilities=np.ones((2, 9, 9)))
    with pytest.raises(ValueError, match="4 or 8"):
        Rules(connectivity=6)


def test_blocks_cover_once_and_results_keep_their_order():
    seen = np.zeros((10, 23), int)
    blocks = [block for band in bands(seen.shape, 4) for block in band]
    for block in blocks:
        seen[block.y0 : block.y1, block.x0 : block.x1] += 1
    assert (seen == 1).all()
    assert [block.number for block in blocks] == list(range(len(blocks)))
    assert list(ordered_map(lambda i: i * i, range(20), 3)) == [i * i for i in range(20)]


def test_window_beyond_the_slide_is_zero():
    image = np.arange(1, 13).reshape(3, 4)
    window = read_window(image, -2, 1, 4, 7)
    np.testing.assert_array_equal(window[2:5, :3], image[:, 1:])
    assert window.shape == (6, 6) and window.sum() == image[:, 1:].sum()
