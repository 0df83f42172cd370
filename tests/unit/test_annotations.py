"""Outlines as ImageScope and QuPath write them: their labels, and what is refused."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from slideunet.annotations import label_outlines, read_outlines
from slideunet.errors import UserError

CLASSES = ["background", "nucleus"]


def box(y, x, height, width):
    return np.array([(y, x), (y, x + width), (y + height, x + width), (y + height, x)], float)


def star(seed, count=30, centre=(40, 50), radius=35):
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, count))
    r = rng.uniform(0.3, 1, count) * radius
    return np.stack([centre[0] + r * np.sin(angle), centre[1] + r * np.cos(angle)], axis=1)


def geojson(path, *features, **more):
    content = {"type": "FeatureCollection", "features": list(features), **more}
    path.write_text(json.dumps(content))
    return str(path)


def feature(*rings, name=None, kind="annotation", multi=False):
    coordinates = [[[float(x), float(y)] for y, x in [*ring, ring[0]]] for ring in rings]
    geometry = {"type": "Polygon", "coordinates": coordinates}
    if multi:
        geometry = {"type": "MultiPolygon", "coordinates": [[ring] for ring in coordinates]}
    properties = {"objectType": kind}
    if name is not None:
        properties["classification"] = {"name": name, "color": [200, 0, 0]}
    return {"type": "Feature", "id": "x", "geometry": geometry, "properties": properties}


def xml(path, *regions, name="", head="", encoding="utf-8"):
    text = f'{head}<Annotations MicronsPerPixel="0.25"><Annotation Id="1" Name="{name}"><Regions>'
    for number, (points, attributes) in enumerate(regions, start=1):
        text += f'<Region Id="{number}" {attributes}><Vertices>'
        text += "".join(f'<Vertex X="{x}" Y="{y}"/>' for y, x in points)
        text += "</Vertices></Region>"
    path.write_bytes((text + "</Regions></Annotation></Annotations>").encode(encoding))
    return str(path)


# --- files


def test_qpath_features_become_labels_and_classes(tmp_path):
    path = geojson(
        tmp_path / "a.geojson",
        feature(box(1, 1, 4, 4), name="Tumor"),
        feature(box(10, 1, 4, 4), box(11, 2, 2, 2), name="Stroma", kind="detection"),
        feature(box(1, 10, 2, 2), box(6, 10, 2, 2), name="Tumor", multi=True),
        feature(box(20, 1, 3, 3), name="Ignore*"),
        feature(box(12, 10, 3, 3), name="background"),
    )
    classes = ["background", "tumor", "STROMA"]  # case does not count
    label, class_image = label_outlines(read_outlines(path), classes, (30, 30))
    assert label.dtype == np.int32
    assert class_image.dtype == np.uint8
    values, counts = np.unique(label, return_counts=True)
    assert dict(zip(values, counts, strict=True)) == {
        -1: 9,
        0: 900 - 9 - 16 - 12 - 8,
        1: 16,
        2: 12,
        3: 8,
    }
    assert (class_image[label == 1] == 1).all()
    assert (class_image[label == 2] == 2).all()
    assert (class_image[label == -1] == 255).all()
    assert (class_image[label == 0] == 0).all()


def test_outside_of_regions_nobody_annotated(tmp_path):
    path = geojson(
        tmp_path / "a.geojson",
        feature(box(0, 0, 10, 10), name="Region*"),
        feature(box(20, 20, 3, 3)),  # outside: gets no number
        feature(box(2, 2, 3, 3)),
        feature(box(8, 8, 6, 6)),
    )
    label, class_image = label_outlines(read_outlines(path), CLASSES, (30, 30))
    assert set(np.unique(label)) == {-1, 0, 1, 2}
    assert (label == -1).sum() == 800
    assert (label == 2).sum() == 4
    assert np.array_equal(class_image == 255, label == -1)


def test_negative_pen_ellipse_and_text(tmp_path):
    ring = "Text='nucleus'"
    path = xml(
        tmp_path / "a.xml",
        (box(0, 0, 10, 10), ring),
        (box(2, 2, 4, 4), "NegativeROA='1'"),
        ([(20, 20), (40, 30)], f"Type='2' {ring}"),
        ([(50, 50), (51, 51)], f"Type='4' {ring}"),  # a ruler
    )
    found = read_outlines(path)
    assert len(found) == 3
    label, _ = label_outlines(found, CLASSES, (60, 60))
    assert (label == 1).sum() == 84
    assert abs((label == 2).sum() - np.pi * 10 * 5) < 8
    assert (label == 0).sum() + (label > 0).sum() == 3600


def test_the_layer_names_the_class(tmp_path):
    found = read_outlines(xml(tmp_path / "a.xml", (box(0, 0, 4, 4), "Text='x'"), name="Nucleus"))
    assert found[0].name == "Nucleus"
    assert label_outlines(found, CLASSES, (9, 9))[0].max() == 1


def test_a_crop_of_a_region_equals_the_crop_of_the_whole(tmp_path):
    features = [feature(star(seed, centre=(seed * 9, seed * 11), radius=20)) for seed in range(8)]
    found = read_outlines(geojson(tmp_path / "a.geojson", *features))
    whole = label_outlines(found, CLASSES, (90, 100))[1]
    part = label_outlines(found, CLASSES, (30, 40), (25, 33))[1]
    assert np.array_equal(part, whole[25:55, 33:73])


def test_other_forms_of_geojson(tmp_path):
    one = feature(box(0, 0, 4, 4))
    (tmp_path / "list.json").write_text(json.dumps([one]))
    (tmp_path / "one.geojson").write_text(json.dumps(one))
    (tmp_path / "bare.geojson").write_text(json.dumps(one["geometry"]))
    (tmp_path / "zip.geojson.gz").write_bytes(gzip.compress(json.dumps([one]).encode("utf-16")))
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}
    geojson(tmp_path / "point.geojson", point, one)
    for name in ("list.json", "one.geojson", "bare.geojson", "zip.geojson.gz", "point.geojson"):
        assert [o.area_px for o in read_outlines(tmp_path / name)] == [16]
    derived = feature(box(0, 0, 4, 4))
    derived["properties"]["classification"] = {"names": ["Tumor", "Positive"]}
    assert read_outlines(geojson(tmp_path / "d.geojson", derived))[0].name == "Tumor: Positive"


# --- what is refused, in one line that names the file


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]>',
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a SYSTEM "http://localhost:1/a.dtd">',
    ],
)
def test_document_types_are_refused_in_any_encoding(tmp_path, head, encoding):
    declared = f'<?xml version="1.0" encoding="{encoding}"?>{head}'
    path = xml(
        tmp_path / "a.xml", (box(0, 0, 4, 4), "Text='&b;'"), head=declared, encoding=encoding
    )
    with pytest.raises(UserError, match=r"a\.xml: has a document type"):
        read_outlines(path)


BAD = {
    "empty.xml": (b"", "empty"),
    "blank.geojson": (b" \n", "empty"),
    "cut.xml": (b"<Annotations><Annotation>", "not readable as XML"),
    "other.xml": (b"<svg/>", "no <Annotations>"),
    "encoding.xml": (b'<?xml version="1.0" encoding="nonsense"?><Annotations/>', "not readable"),
    "none.xml": (b"<Annotations/>", "no outline"),
    "vertex.xml": (b"<Annotations><Region><Vertex X='1'/></Region></Annotations>", "without X, Y"),
    "nan.xml": (
        b"<Annotations><Region><Vertices><Vertex X='nan' Y='1'/><Vertex X='1' Y='1'/>"
        b"<Vertex X='2' Y='5'/></Vertices></Region></Annotations>",
        "region 1: a coordinate is no position",
    ),
    "none.geojson": (b'{"type": "FeatureCollection", "features": []}', "no outline"),
    "cut.geojson": (b'{"type": ', "not readable as GeoJSON"),
    "nan.geojson": (b'[{"geometry": {"type": "Polygon", "coordinates": [[[NaN, 1]]]}}]', "NaN"),
    "far.geojson": (
        b'[{"geometry": {"type": "Polygon", "coordinates": [[[1e300, 1], [2, 2], [3, 1]]]}}]',
        "feature 1: a coordinate is no position",
    ),
    "odd.geojson": (b'[{"geometry": {"type": "Polygon", "coordinates": 7}}]', "feature 1: not a"),
    "null.geojson": (b"[null]", "feature 1: not a"),
    "number.geojson": (b"7", "no list of features"),
    "deep.geojson": (b"[" * 200_000, "not readable as GeoJSON"),
    "binary.geojson": (b"\xff\xfe\xfa\x00\x01", "not readable as GeoJSON"),
    "bad.geojson.gz": (b"not gzip", "not readable"),
    "cut.geojson.gz": (gzip.compress(b"[1, 2]" * 50)[:-9], "not readable"),
    "points.txt": (b"1 2 3", "ImageScope"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_one_line(tmp_path, name):
    content, reason = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_outlines(tmp_path / name)
    assert name in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_pipes(tmp_path):
    os.mkfifo(tmp_path / "pipe.xml")
    for name in ("pipe.xml", "missing.geojson"):
        with pytest.raises(UserError, match=f"{name}: no such file"):
            read_outlines(tmp_path / name)


def test_a_gzip_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("slideunet.annotations.BYTES_MAX", 1 << 20)
    (tmp_path / "a.geojson.gz").write_bytes(gzip.compress(b" " * (2 << 20)))
    with pytest.raises(UserError, match="more than 1 MB"):
        read_outlines(tmp_path / "a.geojson.gz")


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ([feature(box(0, 0, 4, 4), name="Immune")], "outline 1 has the class 'Immune'"),
        (
            [feature(box(0, 0, 4, 4), name="nucleus"), feature(box(0, 0, 9, 9))],
            "outline 2 has no class",
        ),
        # A region without a class around detections without one: which of them are objects?
        ([feature(box(0, 0, 4, 4), kind="detection"), feature(box(0, 0, 9, 9))], "has no class"),
    ],
)
def test_classes_that_are_not_known(tmp_path, features, said):
    found = read_outlines(geojson(tmp_path / "a.geojson", *features))
    with pytest.raises(UserError) as caught:
        label_outlines(found, CLASSES, (20, 20), path="a.geojson")
    assert said in str(caught.value)
    assert "background, nucleus, Ignore*, Region*" in str(caught.value)


def test_without_a_class_two_foreground_classes_are_ambiguous(tmp_path):
    found = read_outlines(geojson(tmp_path / "a.geojson", feature(box(0, 0, 4, 4))))
    with pytest.raises(UserError, match="outline 1 has no class"):
        label_outlines(found, ["background", "a", "b"], (9, 9))


# --- real outlines


def test_monuseg_has_the_published_number_of_nuclei():
    if "UNET_SLIDES_DATA" not in os.environ:
        pytest.skip("UNET_SLIDES_DATA is not set: no MoNuSeg annotations")
    files = sorted(Path(os.environ["UNET_SLIDES_DATA"], "monuseg/annotations").glob("*.xml"))
    found = [read_outlines(path) for path in files]
    assert sum(map(len, found)) == 4949
    # 445 regions in the third file, one of two points, which hold nothing.
    assert label_outlines(found[2], CLASSES, (1000, 1000))[0].max() == 444
