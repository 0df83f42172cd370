"""Training images: every kind of file gives the same array, and every mistake one line."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from slideunet import images
from slideunet.errors import UserError
from slideunet.images import pixel_size_um, read_image
from slideunet.readers.open import open_slide

RNG = np.random.default_rng(0)
GREY8 = RNG.integers(0, 256, (40, 50), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (40, 50), dtype=np.uint16)
FLOAT = RNG.normal(size=(40, 50)).astype(np.float32)
RGB = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
STACK = RNG.integers(0, 65536, (6, 40, 50), dtype=np.uint16)


def data(*parts):
    if "UNET_SLIDES_DATA" not in os.environ:
        pytest.skip("UNET_SLIDES_DATA is not set: no real images")
    return str(Path(os.environ["UNET_SLIDES_DATA"], *parts))


def write_zarr(path, pixels, version):
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    scale = [{"type": "scale", "scale": [1, 0.5, 0.5]}]
    multiscales = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]
    inner = {"version": version, "multiscales": multiscales}
    attributes = {"ome": inner} if version == "0.5" else {"multiscales": multiscales}
    group = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2, attributes=attributes)
    chunks = (1, 16, 16)
    group.create_array("0", shape=pixels.shape, chunks=chunks, dtype=pixels.dtype)[...] = pixels


def channels_first(pixels):
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


WRITERS = {
    "grey.png": (GREY8, lambda p, a: Image.fromarray(a).save(p)),
    "grey16.png": (GREY16, lambda p, a: Image.fromarray(a).save(p)),
    "rgb.png": (RGB, lambda p, a: Image.fromarray(a).save(p)),
    "grey.tif": (GREY8, tifffile.imwrite),
    "grey16.tif": (GREY16, lambda p, a: tifffile.imwrite(p, a, compression="zlib")),
    "big.tif": (GREY16, lambda p, a: tifffile.imwrite(p, a, bigtiff=True, byteorder=">")),
    "float.tif": (FLOAT, tifffile.imwrite),
    "tiled.tif": (FLOAT, lambda p, a: tifffile.imwrite(p, a, tile=(16, 32), predictor=False)),
    "rgb.tif": (RGB, tifffile.imwrite),
    "planar.tif": (RGB, lambda p, a: tifffile.imwrite(p, np.moveaxis(a, -1, 0), photometric="rgb")),
    "a.ome.tif": (GREY16, lambda p, a: tifffile.imwrite(p, a, metadata={"axes": "YX"})),
    "white.tif": (GREY8, lambda p, a: tifffile.imwrite(p, 255 - a, photometric="miniswhite")),
}


@pytest.mark.parametrize("name", WRITERS)
def test_one_picture_in_many_files(tmp_path, name):
    pixels, write = WRITERS[name]
    write(tmp_path / name, pixels)
    found = read_image(str(tmp_path / name))
    assert found.pixels.dtype == pixels.dtype
    assert np.array_equal(found.pixels, channels_first(pixels))
    assert found.whole_yx == (40, 50)
    part = read_image(str(tmp_path / name), region=(3, 5, 20, 30))
    assert np.array_equal(part.pixels, channels_first(pixels)[:, 3:23, 5:35])
    assert part.whole_yx == (40, 50)
    assert part.region == (3, 5, 20, 30)


def test_alpha_is_dropped_and_palettes_are_colours(tmp_path):
    alpha = np.dstack([RGB, GREY8])
    Image.fromarray(alpha).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", alpha, photometric="rgb", extrasamples=["unassalpha"])
    Image.fromarray(RGB).quantize(64).save(tmp_path / "p.png")
    for name in ("a.png", "a.tif"):
        assert np.array_equal(read_image(str(tmp_path / name)).pixels, np.moveaxis(RGB, -1, 0))
    shown = np.asarray(Image.open(tmp_path / "p.png").convert("RGB"))
    assert np.array_equal(read_image(str(tmp_path / "p.png")).pixels, np.moveaxis(shown, -1, 0))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path, version):
    write_zarr(tmp_path / "a.ome.zarr", STACK[:3], version)
    found = read_image(str(tmp_path / "a.ome.zarr"), region=(1, 2, 30, 40))
    assert np.array_equal(found.pixels, STACK[:3, 1:31, 2:42])
    assert found.mpp_um == (0.5, 0.5)


STACKS = {
    "shaped.tif": {"metadata": {"axes": "QYX"}},
    "plain.tif": {"metadata": None, "photometric": "minisblack"},
    "packed.tif": {"metadata": None, "photometric": "minisblack", "compression": "zlib"},
    "imagej.tif": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "t.ome.tif": {"metadata": {"axes": "TYX"}, "tile": (16, 16)},
}


@pytest.mark.parametrize("name", STACKS)
def test_sections_of_a_stack(tmp_path, name):
    path = str(tmp_path / name)
    tifffile.imwrite(path, STACK, **STACKS[name])
    for page in (0, 4):
        found = read_image(path, page, (3, 5, 20, 30))
        assert np.array_equal(found.pixels, STACK[page : page + 1, 3:23, 5:35])
        assert found.whole_yx == (40, 50)
    with pytest.raises(UserError, match=rf"{name}: page 6 is wanted, the last of its 6 is 5"):
        read_image(path, 6)
    with pytest.raises(UserError, match=rf"{name}: a stack of 6 sections: .* \(0 to 5\)"):
        read_image(path)


def test_sections_with_channels_and_colours(tmp_path):
    pixels = RNG.integers(0, 256, (4, 3, 40, 50), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, metadata={"axes": "TCYX"})
    colours = np.ascontiguousarray(np.moveaxis(pixels, 1, -1))
    tifffile.imwrite(tmp_path / "rgb.tif", colours, photometric="rgb")
    tifffile.imwrite(tmp_path / "tz.ome.tif", pixels[..., :2, :], metadata={"axes": "TZYX"})
    assert np.array_equal(read_image(str(tmp_path / "a.ome.tif"), 2).pixels, pixels[2])
    assert np.array_equal(read_image(str(tmp_path / "rgb.tif"), 2).pixels, pixels[2])
    expected = pixels[1, 2:3, :2]  # page 1 * 3 + 2
    assert np.array_equal(read_image(str(tmp_path / "tz.ome.tif"), 5).pixels, expected)


def test_page_0_of_a_single_picture(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY16)
    Image.fromarray(GREY8).save(tmp_path / "a.png")
    assert np.array_equal(read_image(str(tmp_path / "a.tif"), 0).pixels[0], GREY16)
    assert np.array_equal(read_image(str(tmp_path / "a.png"), 0).pixels[0], GREY8)
    for name in ("a.tif", "a.png"):
        with pytest.raises(UserError, match=f"{name}: page 1 is wanted"):
            read_image(str(tmp_path / name), 1)


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint32", "float64", "int8"])
def test_other_numbers_become_float32(tmp_path, dtype):
    pixels = np.arange(-1000, 1000).reshape(40, 50).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    found = read_image(str(tmp_path / "a.tif")).pixels
    assert found.dtype == np.float32
    assert np.array_equal(found[0], pixels.astype(np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(tmp_path, value):
    pixels = FLOAT.copy()
    pixels[7, 9] = pixels[8, 1] = value
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    with pytest.raises(UserError, match=r"a\.tif: 2 values are NaN or infinite.* y=7 x=9"):
        read_image(str(tmp_path / "a.tif"), region=(2, 0, 20, 50))
    tifffile.imwrite(tmp_path / "huge.tif", np.full((8, 8), 1e300))
    with pytest.raises(UserError, match="64 values are NaN or infinite"):
        read_image(str(tmp_path / "huge.tif"))


@pytest.mark.parametrize(
    "region", [(0, 0, 41, 50), (0, 1, 40, 50), (40, 0, 1, 1), (0, 0, 0, 5), (9999, 0, 1, 1)]
)
def test_regions_outside_the_image(tmp_path, region):
    Image.fromarray(GREY8).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "s.tif", STACK, photometric="minisblack")
    for name, page in (("a.png", None), ("s.tif", 1)):
        with pytest.raises(UserError, match=rf"{name}: region .* 40 x 50 px"):
            read_image(str(tmp_path / name), page, region)


def test_files_that_are_none(tmp_path):
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "text.png").write_text("not a picture")
    tifffile.imwrite(tmp_path / "cut.tif", STACK, photometric="minisblack")
    whole = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[:5000])
    for name in ("empty.tif", "text.png", "cut.tif", "missing.tif"):
        for page in (None, 0):
            with pytest.raises(UserError) as caught:
                read_image(str(tmp_path / name), page)
            assert name in str(caught.value)
            assert "\n" not in str(caught.value)


def test_whatever_tifffile_meets_is_one_line(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise KeyError("odd")

    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack")
    monkeypatch.setattr(tifffile, "TiffFile", fail)
    with pytest.raises(UserError, match=r"a\.tif: not readable as TIFF"):
        read_image(str(tmp_path / "a.tif"), 0)


def test_a_damaged_section_is_one_line(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", compression="zlib", metadata=None)
    with tifffile.TiffFile(path) as tif:
        offset = tif.series[0].pages[0].dataoffsets[0]
        if len(tif.pages) > 3:
            offset = tif.pages[3].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.tif: page 3 does not decode"):
        read_image(str(path), 3)


def test_pictures_too_large_for_training(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack")
    monkeypatch.setattr(images, "IMAGE_BYTES_MAX", 3000)
    with pytest.raises(UserError, match=r"a\.tif: 40 x 50 px .*column region"):
        read_image(str(tmp_path / "a.tif"), 0)
    assert read_image(str(tmp_path / "a.tif"), 0, (0, 0, 20, 20)).pixels.shape == (1, 20, 20)


def test_pixel_sizes(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY8)
    silent = read_image(str(tmp_path / "a.tif"))
    assert pixel_size_um(silent, "a.tif", None) is None
    assert pixel_size_um(silent, "a.tif", "0.25") == 0.25
    stated = replace(silent, mpp_um=(0.5, 0.502))
    assert pixel_size_um(stated, "a.tif", None) == pytest.approx(0.501)
    assert pixel_size_um(stated, "a.tif", "0.25") == 0.25
    for given, found in (("0", None), ("50", None), (None, (0.5, 0.6)), (None, (float("nan"), 1))):
        with pytest.raises(UserError, match=r"a\.tif: a pixel size .* column mpp_um"):
            pixel_size_um(replace(silent, mpp_um=found), "a.tif", given)


def test_a_region_of_a_real_slide():
    path = data("slides", "CMU-1-Small-Region.svs")
    found = read_image(path, region=(1000, 700, 300, 400))
    with open_slide(path) as reader:
        assert np.array_equal(found.pixels, reader.read(0, 1000, 700, 300, 400))
    assert found.pixels.shape == (3, 300, 400)
    assert found.mpp_um == pytest.approx((0.499, 0.499))


def test_the_isbi_stack_section_by_section():
    path = data("isbi2012", "train-volume.tif")
    assert np.array_equal(read_image(path, 17).pixels, tifffile.imread(path)[17:18])
