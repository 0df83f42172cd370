"""The stages ingest and weights: what is stored, what it depends on, what a mistake leaves."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from slideunet.errors import UserError
from slideunet.stages import weights as weights_stage
from slideunet.stages.ingest import ingest
from slideunet.stages.weights import weights
from slideunet.store import load
from slideunet.weights import resolve, weight_map

CLASSES = ["background", "nucleus"]
RNG = np.random.default_rng(1)
IMAGE = RNG.integers(0, 65536, (2, 60, 70), dtype=np.uint16)
LABEL = np.zeros((60, 70), np.uint8)
LABEL[5:20, 5:20], LABEL[5:20, 21:40], LABEL[30:50, 10:30] = 1, 2, 3


@pytest.fixture
def files(tmp_path):
    tifffile.imwrite(tmp_path / "image.ome.tif", IMAGE, metadata={"axes": "CYX"})
    tifffile.imwrite(tmp_path / "label.tif", LABEL)
    return tmp_path


def run(folder, image="image.ome.tif", label="label.tif", **row):
    manifest = folder / "results/images/a.json"
    paths = {k: str(folder / v) if k in ("ignore", "annotated") else v for k, v in row.items()}
    ingest(
        image=str(folder / image),
        label=str(folder / label),
        manifest=str(manifest),
        settings={"classes": CLASSES, **paths},
        code={"images": "1"},
    )
    return load(manifest), zarr.open_group(str(manifest.with_suffix(".zarr")), mode="r")


def test_what_is_stored(files):
    manifest, group = run(files, region="2,3,50,60", mpp_um="0.25")
    window = np.s_[2:52, 3:63]
    assert np.array_equal(group["image"][:], IMAGE[:, *window])
    assert np.array_equal(group["label"][:], LABEL[window])
    assert np.array_equal(group["class"][:], LABEL[window] > 0)
    assert (group["image"].dtype, group["label"].dtype) == (np.uint16, np.int32)
    assert group["class"].dtype == np.uint8
    assert dict(group.attrs)["mpp_um"] == 0.25
    assert dict(group.attrs)["classes"] == CLASSES
    facts = manifest["facts"]
    assert facts["shape"] == [2, 50, 60]
    assert facts["dtype"] == "uint16"
    assert facts["objects"] == 3
    foreground = int((LABEL[window] > 0).sum())
    assert facts["pixels"] == {"background": 3000 - foreground, "nucleus": foreground}
    assert facts["not_annotated_px"] == 0
    assert set(manifest["inputs"]) == {"image", "label"}


def test_an_unknown_pixel_size_is_null(files):
    manifest, group = run(files)
    assert manifest["facts"]["mpp_um"] is None
    assert dict(group.attrs)["mpp_um"] is None


def test_equal_input_gives_equal_bytes(files):
    first, _ = run(files)
    (files / "results/images/a.json").unlink()
    again, _ = run(files)
    assert first == again


def test_what_was_left_out_is_counted_and_is_an_input(files):
    hidden = np.zeros((60, 70), np.uint8)
    hidden[:7] = 1
    tifffile.imwrite(files / "hidden.tif", hidden)
    manifest, group = run(files, ignore="hidden.tif")
    assert manifest["facts"]["not_annotated_px"] == 490
    assert (group["label"][:7] == -1).all()
    assert (group["class"][:7] == 255).all()
    assert set(manifest["inputs"]) == {"image", "label", "ignore"}


def test_a_zarr_folder_counts_with_all_its_files(files):
    axes = [{"name": n, "type": "space"} for n in "yx"]
    scale = [{"type": "scale", "scale": [1.0, 1.0]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    group = zarr.create_group(files / "a.zarr", zarr_format=3, attributes={"ome": ome})
    array = group.create_array("0", shape=(60, 70), chunks=(32, 32), dtype="uint16")
    array[...] = IMAGE[0]
    first, stored = run(files, image="a.zarr")
    assert np.array_equal(stored["image"][0], IMAGE[0])
    array[59, 69] = 1
    second, _ = run(files, image="a.zarr")
    assert first["settings"]["image_files"] != second["settings"]["image_files"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"image": "missing.tif"}, "missing.tif: no such file"),
        ({"label": "missing.tif"}, "missing.tif: no such file"),
        ({"ignore": "missing.tif"}, "missing.tif: no such file"),
        ({"label": "small.tif"}, "small.tif: is 30 x 70 px"),
        ({"image": "text.tif"}, "text.tif"),
        ({"label": "empty.tif"}, "empty.tif: all background"),
        ({"region": "50,0,20,20"}, "region y=50 x=0 of 20 x 20 px"),
        ({"page": "1"}, "image.ome.tif: page 1 is wanted"),
        ({"mpp_um": "80"}, "pixel size of 80 in the table"),
        ({"label": "outlines.geojson"}, "outlines.geojson: outline 1 has the class 'Immune'"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(files, row, said):
    tifffile.imwrite(files / "small.tif", LABEL[:30])
    tifffile.imwrite(files / "empty.tif", LABEL * 0)
    (files / "text.tif").write_text("no picture")
    ring = [[0, 0], [9, 0], [9, 9], [0, 0]]
    feature = {
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": "Immune"}},
    }
    (files / "outlines.geojson").write_text(json.dumps([feature]))
    with pytest.raises(UserError) as caught:
        run(files, **row)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    left = files / "results/images"
    assert not left.exists() or all(name.startswith(".") for name in os.listdir(left))


def test_weights_are_those_of_the_whole_image_in_any_blocks(files, monkeypatch):
    run(files)
    folder = files / "results"
    full = resolve({"preset": "paper"})
    target, border = weight_map(LABEL.astype(np.int32), (LABEL > 0).astype(np.uint8), full)
    for block_px in (2048, 32):
        monkeypatch.setattr(weights_stage, "BLOCK_PX", block_px)
        weights(
            image=str(folder / "images/a.json"),
            manifest=str(folder / "weights/a.json"),
            settings={"preset": "paper"},
            code={"block": str(block_px)},
        )
        manifest = load(folder / "weights/a.json")
        group = zarr.open_group(str(folder / "weights/a.zarr"), mode="r")
        assert np.array_equal(group["target"][:], target)
        assert np.array_equal(group["border"][:], border)
        assert manifest["facts"]["counts"] == np.bincount(target.ravel(), minlength=2).tolist()
        assert manifest["facts"]["classes"] == CLASSES
    assert border.max() > 1  # the gap of one pixel between two nuclei


def test_real_images(tmp_path):
    if "UNET_SLIDES_DATA" not in os.environ:
        pytest.skip("UNET_SLIDES_DATA is not set: no ISBI, DIC-HeLa and MoNuSeg images")
    root = Path(os.environ["UNET_SLIDES_DATA"])
    name = "TCGA-B0-5711-01Z-00-DX1"
    rows = {
        "isbi": ("isbi2012/train-volume.tif", "isbi2012/train-labels.tif", {"page": "29"}, 117),
        "dic": ("dic-hela/02/images/t006.tif", "dic-hela/02/gold/man_seg006.tif", {}, 10),
        "he": (f"monuseg/images/{name}.tif", f"monuseg/annotations/{name}.xml", {}, 342),
    }
    for image, label, row, objects in rows.values():
        manifest, _ = run(tmp_path, image=root / image, label=root / label, **row)
        assert manifest["facts"]["objects"] == objects
