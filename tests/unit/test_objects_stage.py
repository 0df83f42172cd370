"""The stages objects, overlay and compare: from a segmentation to the files people open."""

import gzip
import json
import os
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from made_objects import blobs, label_whole
from PIL import Image
from shapely import contains_xy
from shapely.geometry import box, mapping, shape
from skimage.color import rgb2hed
from slideunet import ngff, store
from slideunet.columns import object_columns
from slideunet.errors import UserError
from slideunet.manifest import sealed
from slideunet.slide_file import load_slide
from slideunet.slide_overview import TissueArray, load_tissue
from slideunet.stages import objects as objects_stage
from slideunet.stages.compare import compare
from slideunet.stages.index import index
from slideunet.stages.objects import objects
from slideunet.stages.overlay import overlay
from slideunet.tissue_mask import Tissue

HEIGHT, WIDTH, MPP_UM = 150, 190, 0.5
CLASSES = ["background", "nucleus"]
OPTIONS = {
    "source": "classes", "threshold": 0.5, "connectivity": 4, "min_area_px": 0, "max_area_px": 0,
    "fill_holes_px": 0, "split": "none", "split_depth": 1, "simplify_px": 0, "field_px": 32,
    "also": [], "block_px": 2048,
}  # fmt: skip
OVERLAY = {"outline_rgb": [255, 220, 0], "fields": 3, "field_um": 20, "field_px": 64}


def write_slide(path: Path, pixels: np.ndarray, mpp_um=MPP_UM, compression=None) -> None:
    """A tiled TIFF of (Y, X) grey or (Y, X, 3) colour."""
    size = {} if mpp_um is None else {"PhysicalSizeX": mpp_um, "PhysicalSizeY": mpp_um}
    axes = "YX" if pixels.ndim == 2 else "YXS"
    tifffile.imwrite(
        path, pixels, tile=(64, 64), metadata={"axes": axes, **size}, compression=compression
    )


def stained(classes: np.ndarray) -> np.ndarray:
    """Bright field: violet where there are objects, pink tissue, glass in the last 40 columns."""
    rgb = np.full((*classes.shape, 3), (230, 180, 210), np.uint8)
    rgb[classes > 0] = (90, 50, 140)
    rgb[:, -40:] = 245
    noise = np.random.default_rng(0).integers(0, 8, rgb.shape, dtype=np.uint8)
    return rgb - noise


def prepare(
    folder: Path, classes: np.ndarray, pixels=None, mpp_um=MPP_UM, tissue=(), compression=None
) -> Path:
    """slide.json and segmentation.json, as stages index and segment leave them.

    `tissue`: x0, y0, x1, y1 of the user's own outline.
    """
    folder.mkdir(exist_ok=True)
    pixels = (1000 * (classes > 0) + 100).astype(np.uint16) if pixels is None else pixels
    write_slide(folder / "slide.ome.tif", pixels, mpp_um, compression)
    settings = {
        "index": {"tissue": "all" if pixels.ndim == 2 else "auto", "thumbnail_px": 95,
                  "mem_mb": 2000, "seconds": 100},
        "intensity": {"scope": "image", "low_percentile": 1, "high_percentile": 99.8},
        "mpp_um": None,
    }  # fmt: skip
    file = str(folder / "slide.ome.tif")
    outlines = folder / "outlines.geojson" if tissue else []
    if tissue:
        outlines.write_text(json.dumps(mapping(box(*tissue))))
    manifest = str(folder / "slide.json")
    index(slide=file, tissue=outlines, manifest=manifest, settings=settings, code={})

    def build(work):
        pixel_um = None if mpp_um is None else [mpp_um, mpp_um]
        path = work.folder / "segmentation.ome.zarr"
        ngff.create_segmentation(
            path, classes=CLASSES, image_yx=classes.shape, pixel_um=pixel_um, shard_px=256,
            chunk_px=128, version="0.5",
        )  # fmt: skip
        group = zarr.open_group(str(path))
        inside = np.where(classes == 1, 200, np.where(classes == 255, 0, 30)).astype(np.uint8)
        group["0"][...] = np.stack([np.where(classes == 255, 0, 255 - inside), inside])
        group["labels/classes/0"][...] = classes
        masked_px = int((classes == 255).sum())
        return [path.name], {"pixel_um": pixel_um, "masked_px": masked_px}

    manifest = folder / "segmentation.json"
    store.make(manifest, build, kind="segment", settings={}, code={}, inputs={})
    return folder


def run(folder: Path, name: str = "objects", workers: int = 1, **options) -> dict:
    """Stage objects; the manifest's content."""
    manifest = folder / f"{name}.json"
    objects(
        slide=str(folder / "slide.json"), segmentation=str(folder / "segmentation.json"),
        manifest=str(manifest), workers=workers, code={},
        settings={"objects": {**OPTIONS, **options}, "classes": CLASSES},
    )  # fmt: skip
    return store.read_manifest(manifest)


def draw(folder: Path, **settings) -> dict:
    """Stage overlay; the manifest's content."""
    overlay(
        slide=str(folder / "slide.json"), objects=str(folder / "objects.json"),
        segmentation=str(folder / "segmentation.json"), manifest=str(folder / "overlay.json"),
        settings={"overlay": {**OVERLAY, **settings}}, code={},
    )  # fmt: skip
    return store.read_manifest(folder / "overlay.json")


def labels_of(folder: Path) -> np.ndarray:
    return zarr.open_group(str(folder / "objects.ome.zarr"), mode="r")["0"][...]


def outlines_of(folder: Path) -> list[dict]:
    return json.loads(gzip.decompress((folder / "objects.geojson.gz").read_bytes()))["features"]


def drawn_back(features: list[dict], size: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    labels = np.zeros(size, int)
    for feature in features:
        labels[contains_xy(shape(feature["geometry"]), x, y)] = feature["id"]
    return labels


def test_the_files_agree_with_the_whole_image(tmp_path):
    classes = blobs(3, (HEIGHT, WIDTH))
    folder = prepare(tmp_path, classes)
    content = run(folder, also=["csv", "h5ad"])
    wanted = label_whole(classes, 4)
    np.testing.assert_array_equal(labels_of(folder), wanted)
    np.testing.assert_array_equal(drawn_back(outlines_of(folder), wanted.shape), wanted)
    frame = pd.read_parquet(folder / "objects.parquet")
    count = int(wanted.max())
    assert len(frame) == content["facts"]["objects"] == count > 20
    area = np.bincount(wanted.ravel())[1:]
    np.testing.assert_array_equal(frame["area_um2"], area * MPP_UM**2)
    assert list(frame) == [c.name for c in object_columns(["channel 0"], probabilities=True)]
    np.testing.assert_allclose(frame["probability_mean"], 200 / 255, atol=1e-7)
    np.testing.assert_array_equal(frame["channel_0_mean"], 1100)
    assert len(pd.read_csv(folder / "objects.csv")) == count
    assert anndata.read_h5ad(folder / "objects.h5ad").n_obs == count
    summary = content["facts"]["summary"]
    mm2 = HEIGHT * WIDTH * MPP_UM**2 / 1e6
    assert summary["density_per_mm2"] == pytest.approx(count / mm2, rel=1e-4)
    assert summary["area_px_q50"] == np.median(area)
    assert summary["fraction_nucleus"] == 1
    fields = json.loads((folder / "annotate_next.geojson").read_text())["features"]
    assert fields and all(
        f["properties"]["classification"]["name"] == "Annotate next" for f in fields
    )


def test_an_independent_reader_opens_the_labels(tmp_path):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    folder = prepare(tmp_path, blobs(3, (HEIGHT, WIDTH)))
    run(folder)
    *_, node = Reader(parse_url(str(folder / "objects.ome.zarr")))()
    np.testing.assert_array_equal(np.asarray(node.data[0]), labels_of(folder))
    assert node.metadata["axes"][-1]["unit"] == "micrometer"


def test_blocks_and_workers_change_no_byte(tmp_path, monkeypatch):
    monkeypatch.setattr("slideunet.label_pyramid.SHARD_PX", 64)
    monkeypatch.setattr("slideunet.label_pyramid.CHUNK_PX", 32)
    monkeypatch.setattr("slideunet.stages.objects.SHARD_PX", 64)
    folder = prepare(tmp_path, blobs(4, (HEIGHT, WIDTH)))
    rules = {"fill_holes_px": 9, "split": "distance", "simplify_px": 1, "also": ["csv", "h5ad"]}
    found = []
    for block_px, workers in ((2048, 1), (64, 3), (51, 2)):
        content = run(folder, workers=workers, block_px=block_px, **rules)
        found.append({**content, "settings": None, "checksum": None})
    assert found[0]["facts"]["objects"] > 20
    assert found[0] == found[1] == found[2]  # with the sha256 of every file


def test_optical_densities_of_bright_field_only(tmp_path):
    classes = blobs(3, (HEIGHT, WIDTH))
    classes[:, -40:] = 0
    pixels = stained(classes)
    folder = prepare(tmp_path / "stained", classes, pixels)
    run(folder)
    frame = pd.read_parquet(folder / "objects.parquet")
    labels, densities = labels_of(folder), rgb2hed(pixels)
    for number, name in enumerate(("haematoxylin_od_mean", "eosin_od_mean")):
        wanted = [densities[labels == n, number].mean() for n in frame["id"]]
        np.testing.assert_allclose(frame[name], wanted, atol=1e-8)
    dark = prepare(tmp_path / "dark", classes, pixels // 4)
    run(dark)
    assert not [c for c in pd.read_parquet(dark / "objects.parquet") if "_od_" in c]


def test_fields_to_annotate_lie_on_tissue(tmp_path):
    folder = prepare(tmp_path, blobs(3, (HEIGHT, WIDTH)), tissue=(0, 0, WIDTH - 40, HEIGHT))
    group = zarr.open_group(str(folder / "segmentation.ome.zarr"))
    probabilities = group["0"][...]
    probabilities[:, :, -40:] = 127  # the network is least sure of the glass
    group["0"][...] = probabilities
    content = store.read_manifest(folder / "segmentation.json")
    store.make(folder / "segmentation.json", lambda work: ([], content["facts"]), kind="segment",
               settings={}, code={}, inputs={})  # fmt: skip
    run(folder, field_px=10)
    fields = json.loads((folder / "annotate_next.geojson").read_text())["features"]
    assert len(fields) == 10
    # The mask of the thumbnail is generous by some pixels.
    assert all(shape(f["geometry"]).bounds[0] < WIDTH - 40 + 10 for f in fields)


def test_tissue_at_the_resolution_that_was_segmented():
    mask = np.random.default_rng(0).random((20, 30)) > 0.5
    tissue = Tissue(mask, np.zeros_like(mask), (6.0, 8.0), "outlines")
    seen = TissueArray(tissue, (40, 80), (3.0, 3.0))  # of a slide of 120 x 240 px
    wanted = np.repeat(mask, 2, axis=0)
    places = [int((x + 0.5) * 3 // 8) for x in range(80)]
    np.testing.assert_array_equal(seen[5:33, 7:61], wanted[5:33, places[7:61]])


@pytest.mark.parametrize("mpp_um", [MPP_UM, None])
def test_pictures(tmp_path, mpp_um):
    classes = np.zeros((HEIGHT, WIDTH), np.uint8)
    classes[5:15, 5:15] = classes[5:15, 20:30] = classes[25:35, 5:15] = 1
    classes[104:114, 134:144] = 1
    folder = prepare(tmp_path, classes, mpp_um=mpp_um)
    run(folder)
    content = draw(folder)
    side = 40 if mpp_um else 64
    fields = content["facts"]["fields"]
    assert fields[0] == {"y": 0, "x": 0, "height": side, "width": side, "objects": 3}
    assert [field["objects"] for field in fields] == [3, 1]
    names = sorted(path.name for path in (folder / "pictures").iterdir())
    assert names == ["density.png", "field_1.jpg", "field_2.jpg", "overlay.png", "tissue.png"]
    field = np.asarray(Image.open(folder / "pictures/field_1.jpg")).astype(int)
    assert field.shape == (side, side, 3)
    yellow = np.abs(field - (255, 220, 0)).sum(axis=2) < 90
    assert yellow[5, 5:15].all() and yellow[5:15, 14].all() and not yellow[9, 9]
    before = {p.name: p.read_bytes() for p in (folder / "pictures").iterdir()}
    (folder / "overlay.json").unlink()
    draw(folder)
    assert before == {p.name: p.read_bytes() for p in (folder / "pictures").iterdir()}
    assert draw(folder, fields=0)["facts"]["fields"] == []
    whole = np.asarray(Image.open(folder / "pictures/overlay.png"))
    assert whole.shape[:2] == (75, 95)
    assert (whole[52:57, 67:72] == (255, 220, 0)).all(axis=2).sum() == 16
    assert (whole[:45, :70] == (255, 220, 0)).all(axis=2).sum() > 40


def test_the_tissue_mask_is_shown(tmp_path):
    classes = np.zeros((HEIGHT, WIDTH), np.uint8)
    folder = prepare(tmp_path, classes, pixels=stained(classes), mpp_um=9.0)
    run(folder)
    draw(folder)
    thumbnail = np.asarray(Image.open(folder / "thumbnail.png").convert("RGB"))
    shown = np.asarray(Image.open(folder / "pictures/tissue.png"))
    tissue = load_tissue(folder / "slide.json", load_slide(folder / "slide.json"))
    outline = (shown == (255, 220, 0)).all(axis=2)
    assert 0 < tissue.mask.mean() < 1
    assert outline.any() and tissue.mask[outline].all()
    inside = tissue.mask & ~outline
    assert np.array_equal(shown[inside], thumbnail[inside])
    assert (shown[~tissue.mask] < thumbnail[~tissue.mask]).mean() > 0.9


def test_an_empty_slide_is_valid(tmp_path):
    folder = prepare(tmp_path, np.zeros((HEIGHT, WIDTH), np.uint8))
    content = run(folder, also=["csv", "h5ad"])
    assert content["status"] == "done" and content["facts"]["objects"] == 0
    assert content["facts"]["summary"]["density_per_mm2"] == 0
    assert outlines_of(folder) == []
    assert len(pd.read_parquet(folder / "objects.parquet")) == 0
    assert draw(folder)["facts"]["fields"] == []
    names = {p.name for p in (folder / "pictures").iterdir()}
    assert names == {"density.png", "overlay.png", "tissue.png"}


def test_one_object_on_the_whole_slide_and_objects_of_one_pixel(tmp_path):
    folder = prepare(tmp_path / "full", np.ones((HEIGHT, WIDTH), np.uint8))
    run(folder, block_px=64)
    frame = pd.read_parquet(folder / "objects.parquet")
    assert frame["area_px"].tolist() == [HEIGHT * WIDTH] and frame["touches_edge"].all()
    (feature,) = outlines_of(folder)
    assert shape(feature["geometry"]).bounds == (0, 0, WIDTH, HEIGHT)
    assert draw(folder)["facts"]["fields"][0]["objects"] == 1
    dots = np.zeros((HEIGHT, WIDTH), np.uint8)
    dots[::2, ::2] = 1
    folder = prepare(tmp_path / "dots", dots)
    assert run(folder, block_px=64)["facts"]["objects"] == dots.sum()
    frame = pd.read_parquet(folder / "objects.parquet")
    assert (frame["area_px"] == 1).all() and (frame["perimeter_px"] == 0).all()
    assert (frame["solidity"] == 1).all() and frame["eccentricity"].eq(0).all()
    np.testing.assert_array_equal(drawn_back(outlines_of(folder)[:50], dots.shape).max(), 50)


def test_what_was_not_segmented_is_no_object(tmp_path):
    classes = np.zeros((HEIGHT, WIDTH), np.uint8)
    classes[:50], classes[60:70, 60:70] = 255, 1
    folder = prepare(tmp_path, classes)
    assert run(folder)["facts"]["objects"] == 1


def test_a_failed_slide_is_passed_on(tmp_path):
    folder = prepare(tmp_path, np.zeros((HEIGHT, WIDTH), np.uint8))
    failure = {"stage": "segment", "reason": "tile 3 does not decode"}
    content = store.read_manifest(folder / "segmentation.json")
    content = {**content, "status": "failed", "failure": failure}
    (folder / "segmentation.json").write_bytes(sealed(content))
    assert run(folder)["failure"] == failure
    assert draw(folder)["failure"] == failure
    assert list((folder / "pictures").iterdir()) == []


def test_another_slide_in_the_place_of_what_was_segmented_is_not_measured(tmp_path):
    """A valid slide of the same size and other grey values."""
    folder = prepare(tmp_path, blobs(3, (HEIGHT, WIDTH)))
    assert run(folder)["status"] == draw(folder)["status"] == "done"
    slide = folder / "slide.ome.tif"
    write_slide(slide, np.full((HEIGHT, WIDTH), 777, np.uint16))
    for content in (draw(folder), run(folder, "again")):
        assert content["status"] == "failed"
        assert content["failure"]["reason"].startswith(f"{slide}: the slide has changed")


def test_a_slide_that_changes_while_objects_are_found_is_not_measured(tmp_path, monkeypatch):
    folder = prepare(tmp_path, blobs(3, (HEIGHT, WIDTH)))
    label = objects_stage._label

    def changing(*given):
        write_slide(folder / "slide.ome.tif", np.full((HEIGHT, WIDTH), 777, np.uint16))
        return label(*given)

    monkeypatch.setattr(objects_stage, "_label", changing)
    assert "the slide has changed" in run(folder)["failure"]["reason"]


def test_a_tile_that_was_segmented_and_is_lost_fails_the_slide(tmp_path, caplog):
    """Same size and time, so that only decoding finds it: a disk that rots."""
    folder = prepare(tmp_path, blobs(3, (HEIGHT, WIDTH)), compression="zlib")
    assert run(folder)["status"] == draw(folder)["status"] == "done"
    slide = folder / "slide.ome.tif"
    with tifffile.TiffFile(slide) as file:
        offset, size = file.pages[0].dataoffsets[4], file.pages[0].databytecounts[4]
    time_ns = slide.stat().st_mtime_ns
    with open(slide, "r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * size)
    os.utime(slide, ns=(time_ns, time_ns))
    for content in (run(folder), draw(folder, fields=9)):
        assert content["failure"]["reason"] == (
            f"{slide}: pixels that were segmented do not decode any more; the log tells where"
        )
    assert "the 64 x 64 px at y=64 x=64" in caplog.text


def test_a_probability_map_that_is_no_number_fails_the_slide(tmp_path):
    folder = prepare(tmp_path, blobs(3, (HEIGHT, WIDTH)))
    group = zarr.open_group(str(folder / "segmentation.ome.zarr"))
    values = group["0"][...].astype(np.float32) / 255
    values[1, 60, 70] = np.nan
    del group["0"]
    group.create_array("0", shape=values.shape, chunks=(1, 64, 64), dtype="float32")[...] = values
    content = store.read_manifest(folder / "segmentation.json")
    store.make(folder / "segmentation.json", lambda work: ([], content["facts"]), kind="segment",
               settings={}, code={}, inputs={})  # fmt: skip
    content = run(folder, source="probability")
    assert content["status"] == "failed"
    assert "nan for class 1 at y=60, x=70" in content["failure"]["reason"]


def against(folder: Path, label: str | Path) -> dict:
    """Stage compare; the manifest's content."""
    manifest = folder / "accuracy.json"
    compare(
        objects=str(folder / "objects.json"), label=str(label), manifest=str(manifest),
        settings={"evaluate": {"min_area_px": 1}}, code={},
    )  # fmt: skip
    return store.read_manifest(manifest)


def test_a_reference_is_compared_and_one_of_another_shape_fails_its_slide(tmp_path):
    classes = blobs(3, (HEIGHT, WIDTH))
    folder = prepare(tmp_path, classes)
    run(folder)
    tifffile.imwrite(tmp_path / "label.tif", label_whole(classes, 4).astype(np.uint16))
    assert against(folder, tmp_path / "label.tif")["facts"]["object_f1"] == 1
    tifffile.imwrite(tmp_path / "small.tif", label_whole(classes, 4).astype(np.uint16)[:90])
    content = against(folder, tmp_path / "small.tif")
    assert content["status"] == "failed"
    assert (
        "90 x 190 pixels, but the slide was segmented at 150 x 190" in content["failure"]["reason"]
    )
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((2, *classes.shape), np.uint8), metadata=None)
    reason = against(folder, tmp_path / "stack.tif")["failure"]["reason"]
    assert "stack.tif: a stack of 2 sections" in reason
    (tmp_path / "text.tif").write_text("no picture")
    assert "text.tif" in against(folder, tmp_path / "text.tif")["failure"]["reason"]


def test_a_damaged_label_image_is_named(tmp_path):
    folder = prepare(tmp_path, blobs(3, (HEIGHT, WIDTH)))
    run(folder)
    (chunk,) = [p for p in (folder / "objects.ome.zarr/0/c").rglob("*") if p.is_file()]
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(UserError, match="objects.ome.zarr/0/c/0/0: .* bytes instead of"):
        draw(folder)
