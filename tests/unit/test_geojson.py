"""Outlines for QuPath: parsed, drawn back, and the same bytes for any block size."""

import gzip
import json

import numpy as np
import pytest
import shapely
from made_objects import blobs, label
from shapely.geometry import shape
from slideunet.errors import SlideError
from slideunet.geojson import Placement, Style, qupath_placement, write_geojson
from slideunet.labels import Rules

STYLES = {1: Style("nucleus", (200, 0, 10)), 2: Style('say "cheese" é', (0, 200, 0))}
SIZES = (3, 7, 16, 1000)


def write(path, labels, instances, block_px=1000, **options) -> tuple[bytes, dict]:
    """The file's bytes and its content, read by a strict parser."""
    write_geojson(
        path, labels, instances.last_row, instances.class_of, STYLES,
        first_id=instances.rules.first_id, block_px=block_px, **options,
    )  # fmt: skip
    stored = path.read_bytes()

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return stored, json.loads(gzip.decompress(stored), parse_constant=refuse)


def draw(collection: dict, size: tuple[int, int]) -> np.ndarray:
    """Rasterise: the pixels whose centres lie in an object."""
    labels = np.zeros(size, np.uint64)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    for feature in collection["features"]:
        geometry = shape(feature["geometry"])
        assert geometry.is_valid, shapely.is_valid_reason(geometry)
        for polygon in getattr(geometry, "geoms", [geometry]):
            # RFC 7946, 3.1.6: outer rings counter-clockwise, holes clockwise.
            assert polygon.exterior.is_ccw
            assert not any(ring.is_ccw for ring in polygon.interiors)
        inside = shapely.contains_xy(geometry, x, y)
        assert not labels[inside].any()
        labels[inside] = feature["id"]
    return labels


@pytest.mark.parametrize("connectivity", [4, 8])
def test_drawn_back_it_is_the_label_image(connectivity, tmp_path):
    kinds = set()
    for seed in range(6):
        size = tuple(np.random.default_rng(seed).integers(1, 40, 2))
        instances, labels = label(blobs(seed, size, 1 + seed % 2), Rules(connectivity))
        stored, found = write(tmp_path / "o.gz", labels, instances)
        np.testing.assert_array_equal(draw(found, size), labels)
        for feature in found["features"]:
            kinds.add(feature["geometry"]["type"])
            kinds.add(f"{len(np.shape(feature['geometry']['coordinates'][0]))} deep")
        for block_px in SIZES:
            again, _ = write(tmp_path / "o.gz", labels, instances, block_px, workers=2)
            assert again == stored
    assert ("MultiPolygon" in kinds) == (connectivity == 8)


def test_rings_are_closed_and_have_corners_only(tmp_path):
    classes = np.zeros((40, 40), np.uint8)
    classes[2:38, 3:37] = 1
    classes[10:20, 10:30] = 0
    instances, labels = label(classes)
    _, found = write(tmp_path / "o.gz", labels, instances, 9)
    (feature,) = found["features"]
    outer, hole = feature["geometry"]["coordinates"]
    assert outer == [[3, 2], [37, 2], [37, 38], [3, 38], [3, 2]]
    assert hole == [[10, 10], [10, 20], [30, 20], [30, 10], [10, 10]]


KNOTS = {
    "two pixels that touch at a corner": ["10", "01"],
    "a hole open at a corner": ["111", "101", "110"],
    "two holes that touch at a corner": ["11111", "10111", "11011", "11111"],
    "an island in a hole, tied at a corner": ["111111", "100001", "101101", "101011", "111111"],
    "a hole in the second of two parts": ["1000", "0111", "0101", "0111"],
    "a chain of corners": ["10101", "01010", "10101"],
    "a hole in a part within a part's hole": [
        "1111111",
        "1000001",
        "1011101",
        "1010101",
        "1011101",
        "1000011",
        "1111111",
    ],
    "a part within a part's hole": ["11111", "10001", "10101", "10011", "11111"],
}


@pytest.mark.parametrize("knot", KNOTS)
def test_objects_that_touch_themselves_are_valid(knot, tmp_path):
    classes = np.array([[int(c) for c in row] for row in KNOTS[knot]], np.uint8)
    for turns in range(4):
        turned = np.rot90(classes, turns)
        instances, labels = label(turned, Rules(8))
        for block_px in (1, 2, 1000):
            _, found = write(tmp_path / "o.gz", labels, instances, block_px)
            np.testing.assert_array_equal(draw(found, turned.shape), labels)


def test_order_is_by_last_row_then_id(tmp_path):
    classes = np.zeros((9, 9), np.uint8)
    classes[0:7, 0] = classes[1, 3:5] = classes[5, 6] = classes[1, 8] = 1
    instances, labels = label(classes)
    _, found = write(tmp_path / "o.gz", labels, instances, 2)
    assert [feature["id"] for feature in found["features"]] == [2, 3, 4, 1]


def test_what_qupath_reads(tmp_path):
    instances, labels = label(blobs(3, (30, 30), 2))
    area = instances.area_px.astype(float)
    area[1] = np.nan
    path = tmp_path / "o.gz"
    _, found = write(path, labels, instances, measurements={"area um2": area})
    assert found["type"] == "FeatureCollection"
    for feature in found["features"]:
        row = feature["id"] - 1
        own = STYLES[instances.class_of[row]]
        properties = feature["properties"]
        assert feature["type"] == "Feature"
        assert properties["objectType"] == "detection"
        assert properties["name"] == str(feature["id"])
        assert properties["classification"] == {"name": own.name, "color": list(own.color)}
        assert properties.get("measurements") == (None if row == 1 else {"area um2": area[row]})
    _, found = write(path, labels, instances, object_type="annotation")
    assert found["features"][0]["properties"]["objectType"] == "annotation"


def test_level_0_coordinates_and_bounds(tmp_path):
    instances, labels = label(np.pad(np.ones((2, 3), np.uint8), ((4, 1), (5, 2))))
    path = tmp_path / "o.gz"

    def ring(placement):
        _, found = write(path, labels, instances, placement=placement)
        return found["features"][0]["geometry"]["coordinates"][0]

    wanted = [[20, 8], [32, 8], [32, 12], [20, 12], [20, 8]]
    assert ring(Placement(2, 4)) == wanted
    assert all(type(value) is int for point in ring(Placement(2, 4)) for value in point)
    # Bounds are (y, x, height, width); QuPath counts from their corner.
    shifted = [[x - 1000, y - 300] for x, y in wanted]
    assert ring(qupath_placement((2, 4), (300, 1000, 5000, 6000))) == shifted
    assert ring(qupath_placement((2, 4), None)) == wanted
    assert ring(Placement(0.3333, 1.5, 0, 0.25))[1] == [12.25, 1.33]


def test_simplified_outlines_stay_valid_and_near(tmp_path):
    y, x = np.mgrid[:80, :80]
    away = np.hypot(y - 40, x - 40)
    instances, labels = label(((away < 35) & (away > 12)).astype(np.uint8))
    path = tmp_path / "o.gz"
    exact, found = write(path, labels, instances)
    simple, coarse = write(path, labels, instances, 16, tolerance_px=1.0)
    assert len(simple) < len(exact) / 2
    assert simple == write(path, labels, instances, 1000, tolerance_px=1.0)[0]
    drawn = draw(coarse, labels.shape)
    assert ((drawn > 0) & (labels > 0)).sum() / ((drawn > 0) | (labels > 0)).sum() > 0.95
    one, other = (shape(c["features"][0]["geometry"]) for c in (found, coarse))
    assert len(other.interiors) == 1 and one.hausdorff_distance(other) <= 1.01


def test_large_numbers(tmp_path):
    instances, labels = label(blobs(3, (30, 30)), Rules(first_id=2**40))
    _, found = write(tmp_path / "o.gz", labels, instances, 8)
    np.testing.assert_array_equal(draw(found, labels.shape), labels)


def test_empty_full_and_tiny(tmp_path):
    path = tmp_path / "o.gz"
    instances, labels = label(np.zeros((20, 30), np.uint8))
    assert write(path, labels, instances)[1] == {"type": "FeatureCollection", "features": []}
    for size in ((30, 20), (1, 1)):
        instances, labels = label(np.ones(size, np.uint8))
        for block_px in SIZES:
            _, found = write(path, labels, instances, block_px)
            (ring,) = found["features"][0]["geometry"]["coordinates"]
            height, width = size
            assert ring == [[0, 0], [width, 0], [width, height], [0, height], [0, 0]]


def test_bad_input_is_named(tmp_path):
    instances, labels = label(blobs(3, (30, 30), 2))
    arguments = (tmp_path / "o.gz", labels, instances.last_row, instances.class_of)
    with pytest.raises(SlideError, match="no name and colour for class 2"):
        write_geojson(*arguments, {1: STYLES[1]})
    with pytest.raises(SlideError, match=r"ids 1..37 at y=0, x=0; known are 1..36"):
        write_geojson(arguments[0], labels + np.uint32(labels == 36), *arguments[2:], STYLES)
    with pytest.raises(SlideError, match=r"known are 5..40"):
        write_geojson(arguments[0], labels, *arguments[2:], STYLES, first_id=5)
    with pytest.raises(SlideError, match="the table"):
        write_geojson(arguments[0], np.where(labels == 1, 0, labels), *arguments[2:], STYLES)
    early = np.zeros_like(instances.last_row)
    with pytest.raises(SlideError, match="no closed outline"):
        write_geojson(arguments[0], labels, early, instances.class_of, STYLES, block_px=4)
