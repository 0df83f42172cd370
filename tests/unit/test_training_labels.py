"""Labels of training images: instances, masks, outlines, and pixels that nobody annotated."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from slideunet import training_labels
from slideunet.errors import UserError
from slideunet.images import Picture
from slideunet.training_labels import LabelSource, read_label, to_instances

CLASSES = ["background", "cell"]
INSTANCES = np.zeros((40, 50), dtype=np.uint16)
INSTANCES[2:10, 3:12] = 7
INSTANCES[2:10, 12:20] = 300  # touches the other
INSTANCES[20:30, 30:45] = 12


def picture(region=(0, 0, 40, 50), bounds_yx=(0, 0), whole_yx=(40, 50)):
    pixels = np.zeros((1, *region[2:]), np.uint8)
    return Picture(pixels, region, whole_yx, ["grey"], None, bounds_yx)


def save(path, values, **options):
    if path.suffix == ".png":
        Image.fromarray(values).save(path)
    else:
        tifffile.imwrite(path, values, photometric="minisblack", **options)
    return str(path)


def outlines(path, *boxes):
    features = []
    for y, x, height, width in boxes:
        ring = [(x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y)]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": geometry, "properties": {}})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return str(path)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "int32", "uint64", "float32"])
def test_instance_numbers_are_kept(tmp_path, dtype):
    path = save(tmp_path / "a.tif", INSTANCES.astype(dtype))
    label, class_image = read_label(LabelSource(path), picture(), CLASSES)
    assert label.dtype == np.int32
    assert class_image.dtype == np.uint8
    assert np.array_equal(label, INSTANCES)
    assert np.array_equal(class_image, INSTANCES > 0)


def test_numbers_beyond_int32_are_renumbered_not_wrapped():
    values = np.array([[0, 2**31, 2**32 + 5], [3, 2**63, 0]], dtype=np.uint64)
    assert to_instances(values, "auto", None, "a").tolist() == [[0, 2, 3], [1, 4, 0]]
    assert to_instances(values[:, 1:2], "auto", None, "a").tolist() == [[1], [2]]
    at_limit = np.array([[0, 2**31 - 1]], dtype=np.uint32)
    assert to_instances(at_limit, "auto", None, "a").tolist() == [[0, 2**31 - 1]]


def test_more_labels_than_numbers(monkeypatch):
    monkeypatch.setattr(training_labels, "LABEL_MAX", 3)
    with pytest.raises(UserError, match="a: 4 labels, more than 3"):
        to_instances(np.arange(5)[None], "instances", None, "a")


@pytest.mark.parametrize("value", [1, 255, 65535])
def test_masks_become_4_connected_instances(tmp_path, value):
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0]]) * value
    found = to_instances(mask.astype(np.uint16), "auto", None, "a")
    assert found.tolist() == [[1, 0, 0, 2], [0, 3, 0, 2], [0, 0, 0, 0]]


def test_one_object_of_another_number_is_no_mask():
    values = np.array([[5, 0, 5]])
    assert to_instances(values, "auto", None, "a").tolist() == [[5, 0, 5]]
    assert to_instances(values, "mask", None, "a").tolist() == [[1, 0, 2]]
    assert to_instances(values // 5, "instances", None, "a").tolist() == [[1, 0, 1]]


def test_bilevel_and_white_masks(tmp_path):
    mask = INSTANCES > 0
    for name, values in (("a.png", mask), ("a.tif", mask)):
        path = save(tmp_path / name, values)
        label, _ = read_label(LabelSource(path), picture(), CLASSES)
        assert np.array_equal(label > 0, mask)
        assert label.max() == 2  # two of the three touch


def test_numbers_of_a_palette_png_count(tmp_path):
    shown = Image.fromarray((INSTANCES % 256).astype(np.uint8), mode="P")
    shown.putpalette([255, 255, 255] + [9, 9, 9] * 255)
    shown.save(tmp_path / "a.png")
    label, _ = read_label(LabelSource(str(tmp_path / "a.png")), picture(), CLASSES)
    assert np.array_equal(label, INSTANCES % 256)


def test_grey_saved_as_colour_is_taken(tmp_path):
    values = np.dstack([(INSTANCES % 256).astype(np.uint8)] * 3)
    Image.fromarray(values).save(tmp_path / "a.png")
    label, _ = read_label(LabelSource(str(tmp_path / "a.png")), picture(), CLASSES)
    assert np.array_equal(label, INSTANCES % 256)


def test_regions_cut_from_the_whole_or_given_by_themselves(tmp_path):
    region = (1, 2, 30, 40)
    expected = INSTANCES[1:31, 2:42]
    for name, values in (("whole.tif", INSTANCES), ("part.tif", expected)):
        path = save(tmp_path / name, values)
        label, _ = read_label(LabelSource(path), picture(region), CLASSES)
        assert np.array_equal(label, expected)


def test_sections_of_a_stack(tmp_path):
    stack = np.stack([INSTANCES * 0 + 1, INSTANCES, INSTANCES[::-1]])
    path = save(tmp_path / "a.tif", stack)
    label, _ = read_label(LabelSource(path, page=2), picture(), CLASSES)
    assert np.array_equal(label, INSTANCES[::-1])


# --- what nobody annotated


def test_ignore_value(tmp_path):
    for value, dtype in ((99, "uint8"), (-1, "int16"), (0, "uint16")):
        values = INSTANCES.astype(dtype)
        left_out = values == 0 if value == 0 else np.zeros(values.shape, bool)
        left_out[35:] = True
        values[35:] = value
        path = save(tmp_path / "a.tif", values)
        source = LabelSource(path, ignore_value=value)
        label, class_image = read_label(source, picture(), CLASSES)
        assert np.array_equal(label == -1, left_out)
        assert np.array_equal(class_image == 255, left_out)
        assert np.array_equal(label[label > 0], values[(values > 0) & ~left_out])


def test_ignore_value_of_a_mask():
    values = np.array([[255, 0, 128, 255]])
    assert to_instances(values, "mask", values == 128, "a").tolist() == [[1, 0, -1, 2]]
    assert to_instances(values, "auto", values == 128, "a").tolist() == [[1, 0, -1, 2]]


def test_ignore_mask_and_annotated_regions(tmp_path):
    path = save(tmp_path / "a.tif", INSTANCES)
    hidden = np.zeros((40, 50), np.uint8)
    hidden[:, :5] = 9
    source = LabelSource(path, ignore=save(tmp_path / "i.png", hidden))
    label, class_image = read_label(source, picture(), CLASSES)
    assert np.array_equal(label, np.where(hidden > 0, -1, INSTANCES.astype(int)))
    assert np.array_equal(class_image == 255, hidden > 0)
    annotated = outlines(tmp_path / "r.geojson", (0, 0, 15, 50))
    label, _ = read_label(LabelSource(path, annotated=annotated), picture(), CLASSES)
    assert np.array_equal(label[:15], INSTANCES[:15])
    assert (label[15:] == -1).all()


def test_an_ignore_stack_goes_by_page_and_a_single_mask_serves_all(tmp_path):
    path = save(tmp_path / "a.tif", np.stack([INSTANCES] * 3))
    hidden = np.zeros((3, 40, 50), np.uint8)
    hidden[1, 35:] = 1
    for mask in (hidden, hidden[1]):
        ignore = save(tmp_path / "i.tif", mask)
        label, _ = read_label(LabelSource(path, page=1, ignore=ignore), picture(), CLASSES)
        assert np.array_equal(label == -1, hidden[1] > 0)


def test_outlines_follow_the_region_and_the_scanned_area(tmp_path):
    path = outlines(tmp_path / "a.geojson", (2, 3, 5, 6))
    image = picture((100, 200, 40, 50), bounds_yx=(110, 210), whole_yx=(1000, 1000))
    label, _ = read_label(LabelSource(path), image, CLASSES)
    assert np.argwhere(label)[0].tolist() == [12, 13]
    assert label.sum() == 30


def test_background_alone_will_do_where_the_row_says_what_was_looked_at(tmp_path):
    path = save(tmp_path / "a.tif", INSTANCES)
    empty = outlines(tmp_path / "r.geojson", (31, 0, 9, 20))
    label, _ = read_label(LabelSource(path, annotated=empty), picture(), CLASSES)
    assert set(np.unique(label)) == {-1, 0}


# --- mistakes


def refused(source, match, image=None, classes=CLASSES):
    with pytest.raises(UserError, match=match) as caught:
        read_label(source, image or picture(), classes)
    assert "\n" not in str(caught.value)


def test_another_size(tmp_path):
    path = save(tmp_path / "a.tif", INSTANCES[:, :-1])
    refused(LabelSource(path), r"a\.tif: is 40 x 49 px .* its image 40 x 50")
    refused(LabelSource(path), r"its region 30 x 40", picture((0, 0, 30, 40)))
    good = save(tmp_path / "b.tif", INSTANCES)
    refused(LabelSource(good, ignore=path), r"a\.tif: is 40 x 49 px")


def test_one_class_only(tmp_path):
    empty = save(tmp_path / "empty.png", np.zeros((40, 50), np.uint8))
    full = save(tmp_path / "full.png", np.full((40, 50), 255, np.uint8))
    refused(LabelSource(empty), r"empty\.png: all background")
    refused(LabelSource(full), r"full\.png: all object")
    refused(LabelSource(full, ignore=full), r"full\.png: no pixel of the image is annotated")
    beyond = outlines(tmp_path / "beyond.geojson", (500, 500, 5, 5))
    refused(LabelSource(beyond), r"beyond\.geojson: all background")


def test_values_that_are_no_label(tmp_path):
    cases = {
        "half.tif": (np.where(INSTANCES > 0, 0.5, 0).astype(np.float32), "values such as 0.5"),
        "nan.tif": (np.where(INSTANCES > 0, np.nan, 0).astype(np.float32), "values such as nan"),
        "inf.tif": (np.where(INSTANCES > 0, np.inf, 0).astype(np.float32), "values such as inf"),
        "minus.tif": (INSTANCES.astype(np.int16) - 1, "label -1 is negative"),
        "rgb.png": (np.dstack([INSTANCES % 256, INSTANCES % 7, INSTANCES % 5]), "3 channels"),
    }
    for name, (pixels, reason) in cases.items():
        values = pixels.astype(np.uint8) if name == "rgb.png" else pixels
        refused(LabelSource(save(tmp_path / name, values)), f"{name}: {reason}")


def test_a_mask_of_many_values(tmp_path):
    path = save(tmp_path / "a.tif", INSTANCES)
    refused(LabelSource(path, label_type="mask"), r"a\.tif: 4 values where a mask has two")


def test_a_label_image_has_no_classes(tmp_path):
    path = save(tmp_path / "a.tif", INSTANCES)
    refused(LabelSource(path), r"which of the classes a, b", classes=["background", "a", "b"])


def test_files_that_are_none(tmp_path):
    (tmp_path / "text.png").write_bytes(b"\x89PNG\r\n\x1a\nnot at all")
    for name in ("text.png", "missing.tif", "missing.geojson"):
        refused(LabelSource(str(tmp_path / name)), name)
