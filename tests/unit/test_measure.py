"""Measurements summed up block by block are those of skimage's regionprops on the whole image."""

import numpy as np
import pytest
from made_objects import blobs, label
from skimage.color import rgb2hed
from skimage.measure import regionprops_table
from slideunet.columns import dictionary_markdown, object_columns, signal_names
from slideunet.errors import SlideError
from slideunet.hull import convex_areas
from slideunet.labels import Rules
from slideunet.measure import measure_objects
from slideunet.probability import entropy_nats, read_probabilities
from slideunet.shape import centroid_and_spread, eccentricity, mean_and_std
from slideunet.signals import Sources
from slideunet.sums import Runs, exact, merge_sums, shape_sums

SIZES = (7, 16, 33, 1000)
SAME = {
    "id": "label",
    "bbox_y0_px": "bbox-0",
    "bbox_x0_px": "bbox-1",
    "bbox_y1_px": "bbox-2",
    "bbox_x1_px": "bbox-3",
    "area_px": "area",
    "centroid_y_px": "centroid-0",
    "centroid_x_px": "centroid-1",
    "perimeter_px": "perimeter",
    "solidity": "solidity",
}
SHAPES = ("label", "bbox", "area", "centroid", "perimeter", "solidity", "eccentricity",
          "orientation", "inertia_tensor")  # fmt: skip
INTENSITIES = ("intensity_mean", "intensity_std", "intensity_min", "intensity_max")


def measure(labels, instances, block_px=1000, **options) -> dict[str, np.ndarray]:
    """All batches as one table."""
    batches = list(
        measure_objects(
            labels, instances.last_row, instances.class_of,
            first_id=instances.rules.first_id, block_px=block_px, **options,
        )
    )  # fmt: skip
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def same_bytes(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert values.dtype == other[name].dtype
        np.testing.assert_array_equal(values, other[name], err_msg=name)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("seed", range(4))
def test_shapes_equal_regionprops_for_any_block_size(connectivity, seed):
    shape = tuple(np.random.default_rng(seed).integers(20, 60, 2))
    instances, labels = label(blobs(seed, shape, 2), Rules(connectivity))
    wanted = regionprops_table(labels.astype(int), properties=SHAPES)
    whole = measure(labels, instances)
    for ours, theirs in SAME.items():
        np.testing.assert_allclose(whole[ours], wanted[theirs], rtol=1e-12, err_msg=ours)
    np.testing.assert_allclose(whole["eccentricity"], wanted["eccentricity"], atol=2e-7)
    # The direction of a round object is decided by rounding errors, in skimage as well.
    uneven = wanted["inertia_tensor-0-0"] - wanted["inertia_tensor-1-1"]
    long = np.hypot(uneven, wanted["inertia_tensor-0-1"]) > 1e-9
    turn = np.abs(whole["orientation_rad"] - wanted["orientation"])[long]
    assert np.minimum(turn, np.abs(turn - np.pi)).max() < 1e-6
    np.testing.assert_array_equal(whole["class"], instances.class_of)
    edge = (whole["bbox_y0_px"] == 0) | (whole["bbox_x0_px"] == 0)
    edge |= (whole["bbox_y1_px"] == shape[0]) | (whole["bbox_x1_px"] == shape[1])
    np.testing.assert_array_equal(whole["touches_edge"], edge)
    assert edge.any() and not edge.all()
    for block_px in SIZES:
        same_bytes(measure(labels, instances, block_px, workers=1 + block_px % 2), whole)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_channels_equal_regionprops_for_any_block_size(dtype):
    instances, labels = label(blobs(1, (50, 60)))
    largest = {np.uint8: 255, np.uint16: 65535, np.float32: 3}[dtype]
    image = (np.random.default_rng(0).random((3, 50, 60)) * largest).astype(dtype)
    stains = dtype != np.float32
    sources = Sources(image, ("Red", "DAPI (405)", "red"), stains)
    found = measure(labels, instances, 16, sources=sources)
    in_rows = np.moveaxis(image, 0, -1)
    wanted = regionprops_table(labels.astype(int), in_rows.astype(float), INTENSITIES)
    names = signal_names(["Red", "DAPI (405)", "red"], False)
    assert names == ["red", "dapi_405", "red_2"]
    for number, name in enumerate(names):
        for statistic in ("mean", "std", "min", "max"):
            np.testing.assert_allclose(
                found[f"{name}_{statistic}"], wanted[f"intensity_{statistic}-{number}"],
                rtol=1e-11, atol=largest * 3e-9 * (dtype == np.float32), err_msg=name,
            )  # fmt: skip
    if stains:
        wanted = regionprops_table(labels.astype(int), rgb2hed(in_rows), INTENSITIES)
        for number, name in enumerate(("haematoxylin_od", "eosin_od")):
            for statistic in ("mean", "std", "min", "max"):
                theirs = wanted[f"intensity_{statistic}-{number}"]
                ours = found[f"{name}_{statistic}"]
                np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=3e-9)
    for block_px in SIZES:
        same_bytes(measure(labels, instances, block_px, sources=sources), found)


@pytest.mark.parametrize("first_id", [65_530, 2**24 - 3, 2**31 - 2, 2**32 - 3, 2**53 + 1])
def test_no_number_is_too_large(first_id):
    classes = blobs(3, (40, 40))
    _, labels = label(classes)
    wanted = measure(labels, label(classes)[0])
    instances, labels = label(classes, Rules(first_id=first_id))
    found = measure(labels, instances, 16)
    assert found["id"].tolist() == [int(n) + first_id - 1 for n in wanted["id"]]
    same_bytes({**found, "id": 0 * wanted["id"]}, {**wanted, "id": 0 * wanted["id"]})


def test_probabilities_and_their_entropy():
    classes = blobs(2, (40, 45), 2)
    instances, labels = label(classes)
    stored = np.random.default_rng(0).integers(0, 256, (3, 40, 45), dtype=np.uint8)
    stored[:, 0, 0] = 0
    sources = Sources(probabilities=stored)
    found = measure(labels, instances, sources=sources)
    p = stored / 255
    with np.errstate(invalid="ignore", divide="ignore"):
        share = p / p.sum(axis=0)
        entropy = np.nansum(-share * np.log(share), axis=0)
    for row, number in enumerate(found["id"]):
        own = labels == number
        mean = p[found["class"][row]][own].mean()
        assert found["probability_mean"][row] == pytest.approx(mean, abs=1e-7)
        assert found["entropy_mean_nats"][row] == pytest.approx(entropy[own].mean(), abs=1e-6)
    for block_px in SIZES:
        same_bytes(measure(labels, instances, block_px, sources=sources), found)
    assert entropy_nats(np.full((4, 1), 0.25, np.float32))[0] == pytest.approx(np.log(4))


def test_um_columns_start_at_the_slides_edge():
    labels = np.zeros((4, 6), np.uint32)
    labels[1, 2:4] = 1
    options = {"last_row": np.array([1]), "class_of": np.array([1], np.uint8)}
    (batch,) = measure_objects(labels, **options, mpp_um=(0.5, 2), class_names=["none", "cell"])
    assert (batch["centroid_y_um"][0], batch["centroid_x_um"][0]) == (0.75, 6)
    assert (batch["area_um2"][0], batch["class_name"][0]) == (2, "cell")
    assert batch["perimeter_um"][0] == batch["perimeter_px"][0]
    (batch,) = measure_objects(labels, **options)
    assert np.isnan(batch["area_um2"][0]) and batch["class_name"][0] == "1"


def test_single_pixels_and_one_object_on_the_whole_slide():
    instances, labels = label(np.array([[1, 0, 1], [0, 1, 0]], np.uint8), Rules(4))
    found = measure(labels, instances, 2)
    wanted = regionprops_table(labels.astype(int), properties=SHAPES)
    np.testing.assert_array_equal(found["area_px"], [1, 1, 1])
    for ours in ("eccentricity", "solidity", "perimeter_px"):
        np.testing.assert_array_equal(found[ours], wanted[ours.removesuffix("_px")])
    instances, labels = label(np.ones((40, 30), np.uint8))
    for block_px in SIZES:
        found = measure(labels, instances, block_px)
        assert found["area_px"].tolist() == [1200] and found["solidity"].tolist() == [1]
        assert found["touches_edge"].all()
        assert (found["centroid_y_px"][0], found["centroid_x_px"][0]) == (19.5, 14.5)


def test_an_object_larger_than_integers_hold():
    """A square of 2^17 px a side: its sums of squares exceed 2^63."""
    side, y0, x0, rows = 2**17, 5, 70_007, 1024
    tables = []
    for y in range(y0, y0 + side, rows):
        line = np.arange(y, y + rows, dtype=np.int64)
        ones = np.ones_like(line)
        runs = Runs(np.array([1]), np.array([0]), line, ones * x0, ones * (x0 + side - 1))
        tables.append({"id": np.array([1]), **shape_sums(runs)})
    table = merge_sums(tables)
    with np.errstate(over="ignore"):
        y, x, yy, xx, xy = (float(value[0]) for value in centroid_and_spread(table))
    assert (y, x) == (y0 + (side - 1) / 2, x0 + (side - 1) / 2)
    assert yy == xx == (side**2 - 1) / 12
    assert xy == 0 and eccentricity(*(np.array([v]) for v in (yy, xx, xy)))[0] == 0


def test_exact_beyond_64_bits():
    for number in (0, 5, -7, 2**63 + 12345, 2**80 + 2**40, -(2**70) + 2**30):
        wrapped = np.array([(number + 2**63) % 2**64 - 2**63], np.int64)
        assert exact(wrapped, np.array([number * (1 + 1e-13)]))[0] == float(number)


def test_constant_values_have_no_deviation():
    n = np.array([999_983])
    steps = np.int64(2**30 - 7)
    table = {"n": n, "sum 0": n * steps, "square 0": n * (steps * steps),
             "square~ 0": n * float(steps) ** 2}  # fmt: skip
    mean, std = mean_and_std(table, 0)
    assert (mean[0], std[0]) == (steps, 0)


def test_hulls_of_scattered_pixels():
    random = np.random.default_rng(3)
    labels = random.integers(0, 5, (30, 34))
    labels[10:13] = 0  # rows without a pixel
    wanted = regionprops_table(labels, properties=("label", "area_convex"))["area_convex"]
    columns = [[], [], [], []]
    for number in range(1, 5):
        rows = np.flatnonzero((labels == number).any(axis=1))
        columns[0].append(len(rows))
        for row in rows:
            at = np.flatnonzero(labels[row] == number)
            for column, value in zip(columns[1:], (row, at[0], at[-1]), strict=True):
                column.append(value)
    np.testing.assert_array_equal(convex_areas(*(np.array(c, np.int64) for c in columns)), wanted)


def test_pixels_that_are_no_numbers_are_told():
    instances, labels = label(blobs(1, (30, 30)))
    image = np.ones((2, 30, 30), np.float32)
    image[0][labels == 2] = np.nan
    found = measure(labels, instances, 8, sources=Sources(image, ("a", "b")))
    for statistic in ("mean", "std", "min", "max"):
        assert np.flatnonzero(np.isnan(found[f"a_{statistic}"])).tolist() == [1]
        assert not np.isnan(found[f"b_{statistic}"]).any()
    assert found["b_mean"][1] == 1


def test_bad_input_is_named():
    instances, labels = label(blobs(1, (30, 30)))
    with pytest.raises(SlideError, match=r"label image is \(30, 30\) int64"):
        measure(labels.astype(int), instances)
    with pytest.raises(SlideError, match=r"image is \(3, 30, 31\), the label image \(30, 30\)"):
        measure(labels, instances, sources=Sources(np.zeros((3, 30, 31)), ("r", "g", "b")))
    with pytest.raises(SlideError, match="3 channels, 1 names"):
        measure(labels, instances, sources=Sources(np.zeros((3, 30, 30)), ("r",)))
    with pytest.raises(SlideError, match="RGB images of 8 or 16 bits"):
        sources = Sources(np.zeros((3, 30, 30), np.float32), ("r", "g", "b"), stains=True)
        measure(labels, instances, sources=sources)
    with pytest.raises(SlideError, match="doesn't belong to these objects"):
        measure(labels + np.uint32(1), instances)
    bad = np.full((2, 30, 30), 0.5, np.float32)
    bad[0, 7, 9] = np.nan
    with pytest.raises(SlideError, match=r"nan for class 0 at y=7, x=9"):
        measure(labels, instances, 4, sources=Sources(probabilities=bad))
    with pytest.raises(SlideError, match="int32; they must be uint8 or float"):
        read_probabilities(np.zeros((2, 3, 3), np.int32), (slice(0, 3), slice(0, 3)))


def test_empty_slide_has_no_batches():
    instances, labels = label(np.zeros((20, 30), np.uint8))
    assert not list(measure_objects(labels, instances.last_row, instances.class_of, block_px=8))


def test_data_dictionary_names_what_is_measured():
    instances, labels = label(blobs(1, (30, 30)))
    image = np.zeros((3, 30, 30), np.uint8)
    sources = Sources(image, ("Red", "Green", "Blue"), True, probabilities=image)
    found = measure(labels, instances, sources=sources)
    columns = object_columns(["Red", "Green", "Blue"], stains=True, probabilities=True)
    assert {column.name for column in columns} == set(found)
    assert all(f"`{column.name}`" in dictionary_markdown(columns) for column in columns)
    assert {c.unit for c in columns if c.name.endswith("_um2")} == {"um2"}
