"""Indexing slides: the facts, the thumbnail, the tissue, the grey values; the same every time."""

import hashlib
import json
import os
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import slidefiles
import slideformats
import tifffile
from slideunet import slides
from slideunet.errors import SlideError, UserError
from slideunet.readers.files import identity, slide_files
from slideunet.readers.open import open_slide
from slideunet.tissue_mask import Tissue

DATA = Path(os.environ["UNET_SLIDES_DATA"]) if "UNET_SLIDES_DATA" in os.environ else None
needs_data = pytest.mark.skipif(DATA is None, reason="UNET_SLIDES_DATA is not set")

RGB = slidefiles.picture(600, 700)


def settings(mpp_um=None, tissue="auto", thumbnail_px=256):
    return {
        "index": {"tissue": tissue, "thumbnail_px": thumbnail_px, "mem_mb": 1, "seconds": 1},
        "intensity": {"scope": "image", "low_percentile": 1, "high_percentile": 99.8},
        "mpp_um": mpp_um,
    }


def index(path, folder=None, outlines=None, **changes):
    folder = folder or path.parent / "out"
    folder.mkdir(exist_ok=True)
    return slides.index_slide(path, settings(**changes), folder, outlines)


def test_facts_of_a_slide(tmp_path):
    path = tmp_path / "a b.svs"
    slidefiles.write_svs(path, RGB)
    facts = index(path)
    stat = path.stat()
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (facts["size_bytes"], facts["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns)
    expected = {
        "file": "a b.svs",
        "reader": "tifffile",
        "format": "svs",
        "height": 600,
        "width": 700,
        "levels": [
            {"height": 600, "width": 700, "downsample": 1.0},
            {"height": 300, "width": 350, "downsample": 2.0},
        ],
        "tile_px": [256, 256],
        "codec": "jpeg",
        "dtype": "uint8",
        "channels": ["red", "green", "blue"],
        "mpp_um": [0.5, 0.5],
        "mpp_source": "file",
        "bounds": None,
        "objective_power": 20,
        "bad_tiles": 0,
        "tissue": {"source": "bright field"},
    }
    assert {key: facts[key] for key in expected} == expected
    assert facts["thumbnail"] == {"height": 219, "width": 256, "scale_yx": [2.734375, 2.734375]}
    picture = imagecodecs.imread(tmp_path / "out/thumbnail.png")
    assert picture.shape == (219, 256, 3)
    assert facts["quality"]["tissue_fraction"] > 0.6
    outlines = json.loads((tmp_path / "out/tissue.geojson").read_text())
    assert outlines["features"][0]["geometry"]["type"] == "Polygon"
    json.dumps(facts, allow_nan=False)


def test_the_same_slide_gives_the_same_bytes(tmp_path):
    slidefiles.write_svs(tmp_path / "a.svs", RGB)
    runs = []
    for name in ("one", "two"):
        facts = index(tmp_path / "a.svs", tmp_path / name)
        runs.append([facts, *((tmp_path / name / file).read_bytes() for file in slides.FILES)])
    assert runs[0] == runs[1]


def test_pixel_sizes_from_table_and_file(tmp_path):
    path = tmp_path / "a.svs"
    slidefiles.write_svs(path, RGB, mpp=None)
    assert (index(path)["mpp_um"], index(path)["mpp_source"]) == (None, None)
    facts = index(path, mpp_um="0.25")
    assert (facts["mpp_um"], facts["mpp_source"]) == ([0.25, 0.25], "table")
    slidefiles.write_svs(path, RGB, mpp="0")
    with pytest.raises(SlideError, match="mpp_um"):
        index(path)
    assert index(path, mpp_um="0.25")["mpp_um"] == [0.25, 0.25]
    with pytest.raises(SlideError, match="mpp_um"):
        index(path, mpp_um="25")


def test_slides_too_small_to_be_slides(tmp_path):
    for shape in ((1, 500), (63, 64)):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8))
        with pytest.raises(SlideError, match="too small"):
            index(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_percentiles_are_exact_over_the_sampled_windows(tmp_path, dtype):
    values = np.random.default_rng(0).gamma(2, 900, (2, 1100, 1300))
    values = values.clip(0, 255 if dtype == "uint8" else 30000).astype(dtype)
    if dtype == "float32":
        values[0, :600, :600] = np.nan
    slidefiles.write_ome(tmp_path / "a.tif", values, compression="zlib")
    facts = index(tmp_path / "a.tif", tissue="all")["intensity"]
    assert facts["windows"] == 9
    for channel, low, high in zip(values, facts["low"], facts["high"], strict=True):
        # The nine windows of 512 px overlap at the far edges: take the same ones.
        parts = [
            channel[y : y + 512, x : x + 512].ravel() for y in (0, 512, 588) for x in (0, 512, 788)
        ]
        parts = np.concatenate(parts)
        expected = np.percentile(parts[np.isfinite(parts)].astype(float), (1, 99.8))
        np.testing.assert_allclose((low, high), expected, rtol=1e-6)


def test_percentiles_lie_between_values():
    histogram = np.zeros(256, int)
    histogram[[10, 20, 40]] = 1, 2, 1
    for percent in (0, 10, 33.3, 50, 90, 100):
        expected = np.percentile([10, 20, 20, 40], percent)
        assert slides._percentile(histogram, percent) == pytest.approx(expected)


def test_sampled_windows_lie_on_tissue_and_spread():
    mask = np.zeros((100, 100), bool)
    mask[20:80, 10:90] = True
    tissue = Tissue(mask, np.zeros_like(mask), (400.0, 400.0), "x")
    windows = slides.sample_windows(tissue, 40000, 40000)
    assert len(windows) == len(set(windows)) == 64
    assert all(tissue.tissue_in(*window) for window in windows)
    corners = np.array(windows)[:, :2] / 40000
    for half in (corners[:, 0] < 0.5, corners[:, 1] < 0.5):
        assert 20 <= half.sum() <= 44
    mask[:] = False
    assert slides.sample_windows(Tissue(mask, mask, (400.0, 400.0), "x"), 40000, 40000) == []


def test_overview_is_the_same_in_any_blocks(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", RGB, tile=(64, 64), photometric="rgb", metadata=None)
    with open_slide(tmp_path / "a.tif") as reader:
        whole, scale = slides.read_overview(reader, 100)
        monkeypatch.setattr(slides, "_BLOCK_PX", 50)
        blocks, _ = slides.read_overview(reader, 100)
    assert whole.shape == (3, 86, 100) and scale == (7.0, 7.0)
    np.testing.assert_array_equal(whole, blocks)


def test_users_outlines_take_the_place_of_the_mask(tmp_path):
    slidefiles.write_svs(tmp_path / "a.svs", RGB)
    ring = [[0, 0], [350, 0], [350, 300], [0, 300], [0, 0]]
    outline = {"type": "Polygon", "coordinates": [ring]}
    (tmp_path / "t.geojson").write_text(json.dumps(outline))
    facts = index(tmp_path / "a.svs", outlines=str(tmp_path / "t.geojson"))
    assert facts["tissue"] == {"source": "outlines"}
    assert 0.25 <= facts["quality"]["tissue_fraction"] < 0.27
    with pytest.raises(UserError, match=r"missing\.geojson"):
        index(tmp_path / "a.svs", outlines=str(tmp_path / "missing.geojson"))


def break_tiles(path, every):
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        tiles = list(zip(page.dataoffsets, page.databytecounts, strict=True))[::every]
    with open(path, "r+b") as file:
        for offset, count in tiles:
            file.seek(offset)
            file.write(b"\xff" * count)


def test_tiles_that_do_not_decode_are_counted_and_kept_as_tissue(tmp_path):
    path = tmp_path / "a.tif"
    rgb = np.full((512, 512, 3), 245, np.uint8)
    options = {"tile": (64, 64), "compression": "jpeg", "photometric": "rgb", "metadata": None}
    options["description"] = "Aperio Image Library"  # whose gaps are white, as glass is
    tifffile.imwrite(path, rgb, **options)
    assert index(path)["quality"]["tissue_fraction"] == 0
    break_tiles(path, every=16)
    facts = index(path)
    assert facts["bad_tiles"] == 4
    assert facts["quality"]["tissue_fraction"] >= 4 / 64
    tifffile.imwrite(path, rgb, **options)
    break_tiles(path, every=1)
    with pytest.raises(SlideError, match="most of its tiles don't decode"):
        index(path)


def test_thumbnails_of_dark_channels_can_be_seen(tmp_path):
    channels = np.zeros((2, 200, 200), np.uint16)
    channels[0, 50:90, 50:90], channels[1, 120:160, 120:160] = 300, 7
    slidefiles.write_ome(tmp_path / "a.tif", channels)
    index(tmp_path / "a.tif")
    picture = imagecodecs.imread(tmp_path / "out/thumbnail.png")
    assert (
        picture[70, 70].min() > 200 and picture[140, 140].min() > 200 and picture[5, 5].max() == 0
    )


def test_files_of_slides_in_folders(tmp_path):
    slideformats.write_mrxs(tmp_path / "a.mrxs", slidefiles.picture(256, 256))
    names = [os.path.relpath(file, tmp_path) for file in slide_files(str(tmp_path / "a.mrxs"))]
    assert names == ["a.mrxs", "a/Data0000.dat", "a/Index.dat", "a/Slidedat.ini"]
    store = tmp_path / "store"
    slideformats.write_omezarr(store, slidefiles.channels_first(RGB[:128, :128]))
    before = identity(str(store))
    assert before["files"] == len([f for f in store.rglob("*") if f.is_file()])
    chunk = next(f for f in sorted((store / "0").rglob("*")) if f.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"x")
    assert identity(str(store))["sha256"] != before["sha256"]
    (store / "link").symlink_to("/etc/hostname")
    with pytest.raises(SlideError, match="link is a link"):
        identity(str(store))


def test_a_dicom_series_is_all_its_files(tmp_path):
    slideformats.write_dicom(tmp_path / "b.dcm", RGB)
    slideformats.write_dicom(tmp_path / "a.dcm", np.ascontiguousarray(RGB[::2, ::2]))
    slideformats.write_dicom(tmp_path / "other.dcm", RGB, series="1.2.9")
    mine = [str(tmp_path / "b.dcm"), str(tmp_path / "a.dcm")]
    assert slide_files(str(tmp_path / "b.dcm")) == mine
    with pytest.raises(SlideError, match="2 DICOM series"):
        slide_files(str(tmp_path))
    with pytest.raises(SlideError, match="2 DICOM series"):
        open_slide(tmp_path)


@needs_data
def test_real_slide(tmp_path):
    path = DATA / "slides/CMU-1-Small-Region.svs"
    facts = slides.index_slide(path, settings(thumbnail_px=1024), tmp_path)
    assert facts["mpp_um"] == [0.499, 0.499] and facts["objective_power"] == 20
    assert facts["quality"]["pen_fraction"] == 0
    # The block of skin in it covers 0.63 mm2 by eye (out of 1.64).
    assert facts["quality"]["tissue_mm2"] == pytest.approx(0.635, abs=0.03)
