"""The stage from slide.json and train.json to segmentation.json, on small TIFF slides."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from memory_slide import digest, network, whole_of_scaled
from scipy import ndimage
from slideunet import slide_source, store
from slideunet.errors import UserError
from slideunet.manifest import sealed
from slideunet.readers.open import open_slide
from slideunet.resample import view_at
from slideunet.stages.index import index
from slideunet.stages.segment import segment, segment_part
from slideunet.store import find_damage
from stored_model import write_model

SETTINGS = {
    "segment": {
        "models": ["main"], "tile_px": 32, "shard_px": 64, "chunk_px": 32, "precision": "float32",
        "averaging": "none", "on_bad_tile": "fail", "ngff": "0.5", "threads": 1, "mem_mb": 4000,
    }
}  # fmt: skip
INDEX = {
    "index": {"tissue": "auto", "thumbnail_px": 64, "mem_mb": 2000, "seconds": 100},
    "intensity": {"scope": "image", "low_percentile": 1, "high_percentile": 99.8},
    "mpp_um": None,
}
MPP_UM = 0.5


def write_slide(path: Path, bad: bool = False) -> None:
    """A fluorescence-like 16-bit slide of 130 x 200 px, tiled, with blobs in its left half."""
    rng = np.random.default_rng(0)
    blobs = ndimage.gaussian_filter(rng.random((130, 200)), 4)
    blobs = np.where(blobs > 0.51, 3000 * (blobs - 0.5) / 0.02, 100) + rng.normal(0, 5, blobs.shape)
    blobs[:, 90:] = 100 + rng.normal(0, 5, (130, 110))
    resolution = 1e4 / MPP_UM
    tifffile.imwrite(
        path, blobs.clip(0, 65535).astype(np.uint16), tile=(64, 64), compression="zlib",
        resolution=(resolution, resolution), resolutionunit="CENTIMETER", ome=False, metadata=None,
    )  # fmt: skip
    if bad:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            offset, size = page.dataoffsets[0], page.databytecounts[0]
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(b"\xff" * size)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> dict:
    """A slide, indexed, and a model."""
    folder = tmp_path_factory.mktemp("archive")
    slide = folder / "slide.tif"
    write_slide(slide)
    manifest = str(folder / "slide.json")
    index(slide=str(slide), tissue=[], manifest=manifest, settings=INDEX, code={})
    return {"file": slide, "slide": manifest, "models": [write_model(folder / "main")]}


def run(folder: Path, archive: dict, **more) -> dict:
    """Segment; the manifest's content."""
    folder.mkdir(exist_ok=True)
    settings = {"segment": {**SETTINGS["segment"], **more.pop("settings", {})}}
    manifest = str(folder / "segmentation.json")
    given = {"slide": archive["slide"], "models": archive["models"], **more}
    segment(manifest=manifest, settings=settings, code={}, **given)
    return store.read_manifest(Path(manifest))


def test_a_slide_is_segmented_at_the_models_pixel_size(tmp_path, archive):
    content = run(tmp_path, archive)
    assert content["status"] == "done", content
    facts = content["facts"]
    assert facts["shape"] == [2, 65, 100] and facts["pixel_um"] == [1.0, 1.0]
    assert facts["computed_px"] + facts["skipped_px"] == 65 * 100
    assert facts["skipped_px"] > 0
    group = zarr.open_group(str(tmp_path / "segmentation.ome.zarr"), mode="r")
    found = group["0"][...]
    with open_slide(str(archive["file"])) as reader:
        pixels = view_at(reader, (MPP_UM, MPP_UM), 1.0).read(0, 0, 65, 100)
    intensity = store.read_manifest(Path(archive["slide"]))["facts"]["intensity"]
    low, high = np.float32(intensity["low"][0]), np.float32(intensity["high"][0])
    expected = 255 * whole_of_scaled(network(2), (pixels.astype(np.float32) - low) / (high - low))
    computed = found.sum(axis=0) > 0
    assert computed.sum() == facts["computed_px"]
    assert np.abs(found - expected)[:, computed].max() <= 0.51


def test_timings_stand_beside_the_manifest_not_in_it(tmp_path, archive):
    content = run(tmp_path, archive)
    timing = json.loads((tmp_path / "segmentation.timing.json").read_text())
    assert {"read_s", "compute_s", "write_s", "wall_s", "device_busy_percent", "mpx_per_s"} <= set(
        timing
    )
    assert not any("timing" in entry["path"] for entry in content["files"])
    assert not any(key.endswith("_s") for key in content["facts"])


def run_parts(folder: Path, archive: dict, n_parts: int, **more) -> list[str]:
    """All parts of a slide; their manifests."""
    folder.mkdir()
    manifests = [str(folder / f"{part}-of-{n_parts}.json") for part in range(1, n_parts + 1)]
    settings = {"segment": {**SETTINGS["segment"], **more}}
    for part, manifest in enumerate(manifests, 1):
        segment_part(
            slide=archive["slide"], models=archive["models"], manifest=manifest,
            settings=settings, code={}, part=part, n_parts=n_parts,
        )  # fmt: skip
    return manifests


@pytest.mark.parametrize("n_parts", [1, 2, 5])
def test_parts_give_the_same_store_and_manifest(tmp_path, archive, n_parts):
    whole = run(tmp_path / "whole", archive)
    manifests = run_parts(tmp_path / "parts", archive, n_parts)
    shares = [store.read_manifest(Path(m))["facts"]["computed_px"] for m in manifests]
    assert sum(shares) == whole["facts"]["computed_px"], "nothing is left to the job that joins"
    run(tmp_path / "joined", archive, part_manifests=manifests)
    assert digest(tmp_path / "joined") == digest(tmp_path / "whole")
    for folder in ("joined", "whole"):
        assert find_damage(tmp_path / folder / "segmentation.json") == []
    manifest = (tmp_path / "joined" / "segmentation.json").read_bytes()
    assert manifest == (tmp_path / "whole" / "segmentation.json").read_bytes()


def test_the_timing_of_parts_is_their_sum(tmp_path, archive):
    manifests = run_parts(tmp_path / "parts", archive, 2)
    content = run(tmp_path, archive, part_manifests=manifests)
    timing = json.loads((tmp_path / "segmentation.timing.json").read_text())
    assert timing["computed_px"] == content["facts"]["computed_px"]
    parts = [json.loads(Path(m).with_suffix(".timing.json").read_text()) for m in manifests]
    assert timing["compute_s"] == pytest.approx(sum(p["compute_s"] for p in parts), abs=2e-3)
    assert timing["compute_s"] > 0


def test_a_failed_part_fails_the_slide_with_its_reason(tmp_path, caplog):
    slide = tmp_path / "slide.tif"
    write_slide(slide, bad=True)
    manifest = str(tmp_path / "slide.json")
    index(slide=str(slide), tissue=[], manifest=manifest, settings=INDEX, code={})
    archive = {"slide": manifest, "models": [write_model(tmp_path / "main")]}
    manifests = run_parts(tmp_path / "parts", archive, 2)
    content = run(tmp_path, archive, part_manifests=manifests)
    assert content["status"] == "failed"
    assert content["failure"]["reason"] == f"{slide}: a tile does not decode; the log tells where"
    assert "the tile at y=0 x=0 of level 0 does not decode" in caplog.text


def test_a_slide_that_changed_is_marked_failed(tmp_path):
    slide = tmp_path / "slide.tif"
    write_slide(slide)
    manifest = str(tmp_path / "slide.json")
    index(slide=str(slide), tissue=[], manifest=manifest, settings=INDEX, code={})
    archive = {"slide": manifest, "models": [write_model(tmp_path / "main")]}
    os.utime(slide, ns=(0, 12345))
    content = run(tmp_path / "a", archive)
    assert content["status"] == "failed"
    assert content["failure"]["reason"].startswith(f"{slide}: the slide has changed")
    slide.unlink()
    content = run(tmp_path / "b", archive)
    assert content["failure"]["reason"].startswith(f"{slide}: the slide is gone")


def test_an_unreadable_tile_fails_the_slide_or_is_masked(tmp_path, caplog):
    slide = tmp_path / "slide.tif"
    write_slide(slide, bad=True)
    manifest = str(tmp_path / "slide.json")
    index(slide=str(slide), tissue=[], manifest=manifest, settings=INDEX, code={})
    archive = {"slide": manifest, "models": [write_model(tmp_path / "main")]}
    content = run(tmp_path / "fail", archive)
    assert content["status"] == "failed"
    assert content["failure"]["reason"] == f"{slide}: a tile does not decode; the log tells where"
    assert "the tile at y=0 x=0 of level 0 does not decode" in caplog.text
    content = run(tmp_path / "mask", archive, settings={"on_bad_tile": "mask"})
    assert content["status"] == "done"
    assert content["facts"]["masked_px"] == 32 * 32  # a tile of 64 px at half the size
    group = zarr.open_group(str(tmp_path / "mask/segmentation.ome.zarr"), mode="r")
    assert (group["labels/classes/0"][:32, :32] == 255).all()


def test_a_tile_that_crashes_its_decoder_is_a_bad_tile(tmp_path, archive, monkeypatch, caplog):
    """Native decoders break in ways that no `except` catches."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\nimport slideunet.readers.tiled as tiled\n"
        "tile = tiled.TiledReader._tile\n"
        "def hook(self, level, row, column):\n"
        "    if (row, column) == (0, 0):\n        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    return tile(self, level, row, column)\ntiled.TiledReader._tile = hook\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    content = run(tmp_path / "fail", archive)
    assert content["status"] == "failed"
    assert "its decoder crashes (SIGSEGV)" in caplog.text
    content = run(tmp_path / "mask", archive, settings={"on_bad_tile": "mask"})
    assert content["status"] == "done" and content["facts"]["masked_px"] > 0


def test_a_slide_is_read_with_the_memory_that_it_was_indexed_with(tmp_path, archive, monkeypatch):
    given = []
    real = slide_source.RemoteReader
    monkeypatch.setattr(
        slide_source,
        "RemoteReader",
        lambda *a, **limits: given.append(limits) or real(*a, **limits),
    )
    expected = run(tmp_path / "a", archive)
    manifest = str(tmp_path / "slide.json")
    more = {**INDEX, "index": {**INDEX["index"], "mem_mb": 3000}}
    index(slide=str(archive["file"]), tissue=[], manifest=manifest, settings=more, code={})
    content = run(tmp_path / "b", {**archive, "slide": manifest})
    assert [limits["mem_mb"] for limits in given] == [2000, 3000]
    assert content["facts"] == expected["facts"] and content["settings"] == expected["settings"]


def test_windows_in_bands_are_the_same(archive, monkeypatch):
    with slide_source.open_source(str(archive["file"]), (MPP_UM,) * 2, 1.0, False) as source:
        whole = source.read(3, 5, 60, 90)
        monkeypatch.setattr(slide_source, "BAND_BYTES", 90 * 2 * 7)
        asked = []
        read = source._view.read
        source._view.read = lambda *window: asked.append(window) or read(*window)
        assert np.array_equal(source.read(3, 5, 60, 90), whole)
    assert len(asked) == 9 and max(height for _, _, height, _ in asked) == 7


def test_a_failed_slide_is_passed_on(tmp_path, archive):
    slide = tmp_path / "slide.json"
    failed = {"stage": "index", "reason": "no picture"}
    content = {"kind": "index", "status": "failed", "failure": failed, "files": []}
    store.write_file(slide, sealed(content))
    content = run(tmp_path, {**archive, "slide": str(slide)})
    assert content["status"] == "failed" and content["failure"] == failed


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"channels": 3}, "has 1 channels"),
        ({"mpp_um": None}, None),
    ],
)
def test_models_that_fit_the_slide_or_not(tmp_path, archive, changed, words):
    content = run(tmp_path, {**archive, "models": [write_model(tmp_path / "other", **changed)]})
    if words is None:
        assert content["facts"]["shape"] == [2, 130, 200]  # unscaled
        assert content["facts"]["pixel_um"] == [MPP_UM, MPP_UM]
    else:
        assert content["status"] == "failed" and words in content["failure"]["reason"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"mpp_um": 0.25}, "was trained at 0.25 um"),
        ({"classes": ["background", "gland"]}, "has classes"),
        ({"normalisation": {**INDEX["intensity"], "low_percentile": 5}}, "low_percentile 5"),
        (
            {"architecture": {"depth": 2, "base_channels": 4, "dropout": 0, "padded": True}},
            "padded",
        ),
    ],
)
def test_models_that_do_not_go_together_are_refused(tmp_path, archive, changed, words):
    models = [*archive["models"], write_model(tmp_path / "other", seed=1, **changed)]
    with pytest.raises(UserError, match=words):
        run(tmp_path, {**archive, "models": models})
