"""What is no slide, or a hostile one: one line with file and reason, bounded work, no crash."""

import os
import struct
import zlib

import numpy as np
import pytest
import slideencodings
import slidefiles
import slideformats
import tifffile
from slidefiles import refusal
from slideunet.errors import SlideError
from slideunet.readers import tiff_check, tiled
from slideunet.readers.open import open_slide

RGB = slidefiles.picture(200, 300)


def tiff(path, image=RGB, **options):
    options = {
        "metadata": None,
        "photometric": "rgb" if image.ndim == 3 else "minisblack",
        **options,
    }
    tifffile.imwrite(path, image, **options)


def overwrite_tag(path, page, code, value):
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages[page].tags[code].overwrite(value)


def test_what_is_not_there_or_no_file(tmp_path):
    assert "no such file" in refusal(tmp_path / "missing.svs")
    os.mkfifo(tmp_path / "pipe.svs")
    assert "pipe" in refusal(tmp_path / "pipe.svs")
    (tmp_path / "empty.svs").touch()
    assert "empty" in refusal(tmp_path / "empty.svs")
    (tmp_path / "folder").mkdir()
    assert "folder" in refusal(tmp_path / "folder")
    (tmp_path / "text.svs").write_text("a slide, really\n" * 100)
    assert "no format" in refusal(tmp_path / "text.svs")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_slides(tmp_path, share):
    path = tmp_path / "a.svs"
    slidefiles.write_svs(path, RGB, tile=64)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert "truncated" in refusal(path) or "damaged" in refusal(path)


def test_directories_that_form_a_loop(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(RGB, metadata=None)
        tif.write(RGB[:100], metadata=None)
    with tifffile.TiffFile(path) as tif:
        first, second = (page.offset for page in tif.pages)
        tags = len(tif.pages[1].tags)
    with open(path, "r+b") as file:
        file.seek(second + 2 + 12 * tags)
        file.write(struct.pack("<I", first))
    assert "loop" in refusal(path)


def test_more_directories_than_a_slide_has(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_check, "DIRECTORIES_MAX", 20)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for _ in range(21):
            tif.write(RGB[:16, :16], metadata=None)
    assert "more than 20 directories" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("size", [2**31 - 1, 400_000])
def test_sizes_that_the_file_cannot_hold(tmp_path, size):
    for options in ({"tile": (64, 64)}, {"compression": "zlib"}, {}):
        tiff(tmp_path / "a.tif", **options)
        overwrite_tag(tmp_path / "a.tif", 0, 256, size)
        overwrite_tag(tmp_path / "a.tif", 0, 257, size)
        reason = refusal(tmp_path / "a.tif")
        assert any(word in reason for word in ("claims", "needs", "pieces"))


def test_fewer_tiles_than_the_picture_needs(tmp_path):
    tiff(tmp_path / "a.tif", tile=(64, 64))
    overwrite_tag(tmp_path / "a.tif", 0, 257, 300)
    assert "has 20 of the 25 tiles" in refusal(tmp_path / "a.tif")


def test_a_strip_too_large_to_decode_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tiled, "TILE_BYTES_MAX", 1_000_000)
    rgb = slidefiles.picture(600, 700)
    tiff(tmp_path / "a.tif", rgb, compression="zlib", rowsperstrip=600)
    assert "pieces of 600 x 700" in refusal(tmp_path / "a.tif")
    tiff(tmp_path / "a.tif", rgb, rowsperstrip=600)  # uncompressed: read row by row
    with open_slide(tmp_path / "a.tif") as reader:
        assert reader.read(0, 10, 10, 50, 60).shape == (3, 50, 60)


def test_a_tile_far_larger_than_the_picture(tmp_path):
    tiff(tmp_path / "a.tif", RGB[:64, :64], tile=(64, 64), compression="zlib")
    overwrite_tag(tmp_path / "a.tif", 0, 322, 2**20)
    assert "pieces of 64 x 1048576" in refusal(tmp_path / "a.tif")


def test_a_jpeg_much_larger_than_its_tile(tmp_path):
    path = tmp_path / "a.tif"
    tiff(path, np.zeros((64, 64, 3), np.uint8), tile=(64, 64), compression="jpeg")
    data = bytearray(path.read_bytes())
    frame = data.index(b"\xff\xc0") + 5
    data[frame : frame + 4] = struct.pack(">HH", 60000, 60000)
    path.write_bytes(data)
    assert "60000 x 60000 in a tile" in refusal(path)


def test_xml_with_entities(tmp_path):
    bomb = '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a "b">]><OME>&a;</OME>'
    tiff(tmp_path / "a.tif", description=bomb)
    assert "entities" in refusal(tmp_path / "a.tif")
    wide = "\0".join(bomb) + "\0"
    tiff(tmp_path / "b.tif", extratags=[(700, "B", len(wide), wide.encode(), True)])
    assert "entities" in refusal(tmp_path / "b.tif")


def test_ome_xml_with_numbers_without_end(tmp_path):
    ome = (
        '<OME xmlns="x"><Image><Pixels DimensionOrder="XYCZT" Type="uint8" SizeX="300" SizeY="200" '
        'SizeC="1" SizeZ="1" SizeT="99999999999"><TiffData/></Pixels></Image></OME>'
    )
    tiff(tmp_path / "b.tif", RGB[..., 0], description=ome)
    assert "SizeT" in refusal(tmp_path / "b.tif")


def test_a_stack_is_not_a_slide(tmp_path):
    stack = np.zeros((5, 80, 90), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, ome=True, metadata={"axes": "ZYX"})
    assert "5 focal planes" in refusal(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", stack, imagej=True, metadata={"axes": "TYX"})
    assert "5 time points" in refusal(tmp_path / "b.tif")
    tifffile.imwrite(tmp_path / "c.tif", stack, metadata=None, photometric="minisblack")
    assert "5 pages" in refusal(tmp_path / "c.tif")


def test_only_a_label_or_macro(tmp_path):
    tiff(tmp_path / "a.tif", description="Label")
    assert "only label" in refusal(tmp_path / "a.tif")
    tiff(tmp_path / "b.tif", description="Aperio Image Library v12\nmacro 300x200")
    assert "only label" in refusal(tmp_path / "b.tif")
    tiff(tmp_path / "c.tif", description="labels were drawn by hand")
    with open_slide(tmp_path / "c.tif") as reader:
        assert reader.levels[0].width == 300


def test_levels_of_another_picture(tmp_path):
    slidefiles.write_pyramid(tmp_path / "a.tif", RGB, levels=2, shapes=[(100, 100)], tile=(16, 16))
    assert "aspect ratio" in refusal(tmp_path / "a.tif")


def test_colours_and_numbers_without_a_meaning(tmp_path):
    four = np.zeros((80, 90, 4), np.uint8)
    tiff(tmp_path / "a.tif", four, photometric="separated")
    assert "CMYK" in refusal(tmp_path / "a.tif")
    tiff(tmp_path / "b.tif", np.zeros((80, 90), np.complex64))
    assert "intensity" in refusal(tmp_path / "b.tif")
    tiff(tmp_path / "c.tif", np.zeros((80, 90), np.float32), photometric="miniswhite")
    assert "white is zero" in refusal(tmp_path / "c.tif")


def test_png_that_claims_too_much(tmp_path):
    head = struct.pack(">IIBBBBB", 2**30, 2**30, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    data = (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )
    (tmp_path / "a.png").write_bytes(data + bytes(100))
    assert "claims" in refusal(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(data[:20])
    assert "damaged" in refusal(tmp_path / "b.png")


WRITERS = {
    "svs": lambda path: slidefiles.write_svs(path, RGB, tile=64),
    "tif": lambda path: slidefiles.write_pyramid(path, RGB, compression="zlib", tile=(64, 64)),
    "ndpi": lambda path: slideformats.write_ndpi(path, slidefiles.picture(160, 208)),
    "scn": lambda path: slidefiles.write_scn(path, RGB),
    "ome.tif": lambda path: slidefiles.write_ome(path, slidefiles.channels_first(RGB), 2),
    "dcm": lambda path: slideformats.write_dicom(path, RGB, tile=64),
    "png": slideencodings.encodings(RGB)["png"],
}


@pytest.mark.parametrize("kind", WRITERS)
def test_any_damage_is_refused_or_read_never_a_crash(tmp_path, kind):
    """Bytes changed and ends cut off at random, most of them in the structure."""
    whole = tmp_path / f"whole.{kind}"
    WRITERS[kind](whole)
    data = whole.read_bytes()
    rng = np.random.default_rng(5)
    for case in range(25):
        broken = bytearray(data)
        edge = len(broken) if case % 2 else min(len(broken), 600)
        for _ in range(rng.integers(1, 20)):
            at = (
                int(rng.integers(0, edge))
                if case % 3
                else len(broken) - 1 - int(rng.integers(0, edge))
            )
            broken[at] = int(rng.integers(0, 256))
        path = tmp_path / f"case{case}.{kind}"
        path.write_bytes(broken[: int(rng.integers(1, len(data)))] if case % 5 == 0 else broken)
        try:
            with open_slide(path) as reader:
                level = reader.levels[0]
                reader.read(0, 0, 0, min(level.height, 500), min(level.width, 500))
        except SlideError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
        path.unlink()
