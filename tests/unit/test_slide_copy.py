"""A slide copied into OME-Zarr: the same pixels and levels, valid, resumable, nothing hidden."""

import json
from pathlib import Path

import numpy as np
import ome_zarr_models
import pytest
import slidefiles
import zarr
from slideunet import slide_copy
from slideunet.errors import SlideError
from slideunet.job import Stopped
from slideunet.readers.base import Level
from slideunet.readers.open import open_slide
from slideunet.slide_copy import NAME, copy_slide, shard_px_of
from slideunet.stages.index import index
from slideunet.store import find_damage, read_manifest
from test_segment_stage import INDEX, digest, run, write_model, write_slide

SIZE = 700, 1100


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(slide_copy, "SHARD_PX", 512)


def write(kind: str, path: Path) -> Path:
    """A slide with levels of 1/1 and 1/4, or of one level."""
    rgb = slidefiles.picture(*SIZE)
    if kind == "svs":
        slidefiles.write_svs(path, rgb)
    elif kind == "ome":
        channels = np.moveaxis(rgb, -1, 0).astype(np.uint16)[:2] * 200
        slidefiles.write_ome(path, channels, levels=2, names=["DAPI", "FITC"])
    else:
        slidefiles.write_pyramid(path, rgb, levels=2, shapes=[(175, 275)], compression="zlib")
    return path


def copied(source: Path, folder: Path, **more) -> Path:
    folder.mkdir(exist_ok=True)
    with open_slide(source) as reader:
        return folder / copy_slide(reader, folder, "0" * 64, (0.5, 0.5), **more)


@pytest.mark.parametrize("kind", ["svs", "ome", "tif"])
def test_the_copy_is_the_slide(tmp_path, kind):
    source = write(kind, tmp_path / "a.tif")
    path = copied(source, tmp_path / "out")
    with open_slide(source) as slide, open_slide(path) as copy:
        assert copy.levels == slide.levels and len(slide.levels) > 1
        assert (copy.dtype, copy.channels) == (slide.dtype, slide.channels)
        assert copy.mpp_um == (0.5, 0.5)
        for level, shape in enumerate(slide.levels):
            window = (level, 0, 0, shape.height, shape.width)
            np.testing.assert_array_equal(copy.read(*window), slide.read(*window))
    assert type(ome_zarr_models.open_ome_zarr(zarr.open_group(path, mode="r"))).__name__ == "Image"


def test_levels_lie_where_their_pixels_are(tmp_path):
    path = copied(write("tif", tmp_path / "a.tif"), tmp_path / "out")
    metadata = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
    steps = metadata["multiscales"][0]["datasets"][1]["coordinateTransformations"]
    assert steps[0]["scale"] == [1, 2, 2]  # a quarter of the size, pixels of 0.5 um
    assert steps[1]["translation"] == [0, 0.75, 0.75]


def test_a_copy_that_was_cut_off_goes_on(tmp_path):
    source = write("svs", tmp_path / "a.svs")
    whole = copied(source, tmp_path / "whole")
    left = [4]

    def stop():
        left[0] -= 1
        if left[0] < 0:
            raise Stopped

    with pytest.raises(Stopped):
        copied(source, tmp_path / "cut", stop=stop)
    written = sorted((tmp_path / "cut" / NAME / "0" / "c").rglob("*"))
    shards = [path for path in written if path.is_file()]
    assert len(shards) == 4
    shards[0].write_bytes(shards[0].read_bytes()[:-1])  # half-written
    shards[1].with_name("7.partial").write_bytes(b"x")  # a stray
    asked = []
    copied(source, tmp_path / "cut", stop=lambda: asked.append(1))
    files = [p for p in whole.rglob("*") if p.is_file()]
    assert len(asked) == len([p for p in files if "c" in p.relative_to(whole).parts]) - 3
    assert digest(tmp_path / "cut", NAME) == digest(tmp_path / "whole", NAME)


def test_what_was_copied_of_another_slide_is_thrown_away(tmp_path):
    folder = tmp_path / "out"
    copied(write("svs", tmp_path / "a.svs"), folder)
    other = 255 - slidefiles.picture(*SIZE)
    slidefiles.write_svs(tmp_path / "a.svs", other)
    with open_slide(tmp_path / "a.svs") as reader:
        copy_slide(reader, folder, "1" * 64, None)
        expected = reader.read(0, 0, 0, *SIZE)
    with open_slide(folder / NAME) as copy:
        np.testing.assert_array_equal(copy.read(0, 0, 0, *SIZE), expected)


@pytest.mark.parametrize(
    "pixel_bytes, side", [(1, 4096), (3, 4096), (8, 4096), (9, 2048), (80, 1024)]
)
def test_shards_fit_into_memory(monkeypatch, pixel_bytes, side):
    monkeypatch.setattr(slide_copy, "SHARD_PX", 4096)
    assert shard_px_of(pixel_bytes) == side


def test_levels_that_would_change_are_refused(tmp_path):
    source = write("svs", tmp_path / "a.svs")
    with open_slide(source) as reader:
        reader.levels[1] = Level(reader.levels[1].height, reader.levels[1].width, 3.99)
        with pytest.raises(SlideError, match="its levels .* would become .* index.copy: false"):
            copy_slide(reader, tmp_path, "0" * 64, None)


def indexed(folder: Path, slide: Path, copy: bool) -> dict:
    folder.mkdir()
    manifest = str(folder / "slide.json")
    settings = {**INDEX, "index": {**INDEX["index"], "copy": copy}}
    index(slide=str(slide), tissue=[], manifest=manifest, settings=settings, code={})
    return {"slide": manifest, "models": [write_model(folder / "main")]}


def test_a_slide_is_segmented_from_its_copy_with_the_same_result(tmp_path):
    slide = tmp_path / "slide.tif"
    write_slide(slide)
    here = run(tmp_path / "a", indexed(tmp_path / "here", slide, copy=False))
    archive = indexed(tmp_path / "copied", slide, copy=True)
    manifest = Path(archive["slide"])
    assert not find_damage(manifest)
    assert any(entry["path"].startswith(NAME) for entry in read_manifest(manifest)["files"])
    slide.unlink()
    there = run(tmp_path / "b", archive)
    assert there["status"] == "done" and there["facts"] == here["facts"]
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_a_tile_that_does_not_decode_is_not_hidden_by_a_copy(tmp_path):
    slide = tmp_path / "slide.tif"
    write_slide(slide, bad=True)
    manifest = Path(indexed(tmp_path / "copied", slide, copy=True)["slide"])
    content = read_manifest(manifest)
    assert content["status"] == "failed"
    assert "does not decode" in content["failure"]["reason"]
    assert "index.copy: false" in content["failure"]["reason"]
