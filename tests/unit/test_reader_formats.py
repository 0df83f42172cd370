"""Each scanner's container: the slide is found in it, never its label, with its pixel size."""

import io
import os
from pathlib import Path

import numpy as np
import openslide
import pytest
import slidefiles
import slideformats
import tifffile
from PIL import Image
from slideunet.errors import SlideError
from slideunet.readers.open import open_slide

DATA = Path(os.environ["UNET_SLIDES_DATA"]) if "UNET_SLIDES_DATA" in os.environ else None
needs_data = pytest.mark.skipif(DATA is None, reason="UNET_SLIDES_DATA is not set")

RGB = slidefiles.picture(300, 400)
# Mean error that JPEG at quality 95 leaves on these pictures; another picture differs by 60.
JPEG_ERROR = 1.5


def look(path):
    """The reader's facts and all of level 0."""
    with open_slide(path) as reader:
        level = reader.levels[0]
        pixels = reader.read(0, 0, 0, level.height, level.width)
        shapes = [(item.height, item.width, item.downsample) for item in reader.levels]
        return reader, shapes, pixels


def error(pixels, rgb):
    expected = slidefiles.channels_first(rgb)
    assert pixels.shape == expected.shape
    return np.abs(pixels.astype(int) - expected).mean()


def openslide_pixels(path):
    with openslide.OpenSlide(path) as slide:
        region = slide.read_region((0, 0), 0, slide.dimensions).convert("RGB")
        return np.moveaxis(np.asarray(region), -1, 0)


TWO_LEVELS = [(300, 400, 1.0), (150, 200, 2.0)]


def test_aperio_svs(tmp_path):
    slidefiles.write_svs(tmp_path / "a.svs", RGB, tile=64)
    reader, shapes, pixels = look(tmp_path / "a.svs")
    assert (reader.name, reader.format, shapes) == ("tifffile", "svs", TWO_LEVELS)
    assert (reader.mpp_um, reader.objective_power, reader.codec) == ((0.5, 0.5), 20, "jpeg")
    np.testing.assert_array_equal(pixels, openslide_pixels(tmp_path / "a.svs"))
    assert error(pixels, RGB) < JPEG_ERROR


def test_aperio_without_a_pixel_size_says_none(tmp_path):
    slidefiles.write_svs(tmp_path / "a.svs", RGB, mpp=None)
    assert look(tmp_path / "a.svs")[0].mpp_um is None


@pytest.mark.parametrize("codec,tolerance", [("APERIO_JP2000_RGB", 0), ("APERIO_JP2000_YCBC", 1)])
def test_aperio_jpeg_2000(tmp_path, codec, tolerance):
    slidefiles.write_svs(tmp_path / "a.svs", RGB, compression=codec, compressionargs={})
    pixels = look(tmp_path / "a.svs")[2]
    other = openslide_pixels(tmp_path / "a.svs")
    assert np.abs(pixels.astype(int) - other).max() <= tolerance


def test_aperio_tiles_that_were_never_scanned_are_white(tmp_path):
    path = tmp_path / "a.svs"
    slidefiles.write_svs(path, RGB, levels=1, tile=64, extras=False)
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[0].tags[325].valueoffset  # TileByteCounts
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(bytes(4))
    assert (look(path)[2][:, :64, :64] == 255).all()


def test_hamamatsu_ndpi(tmp_path):
    rgb = slidefiles.picture(300, 416)
    slideformats.write_ndpi(tmp_path / "a.ndpi", rgb)
    reader, shapes, pixels = look(tmp_path / "a.ndpi")
    assert (reader.format, shapes) == ("ndpi", [(300, 416, 1.0), (150, 208, 2.0)])
    assert (reader.tile_px, reader.mpp_um) == ((16, 208), (0.5, 0.5))
    assert reader.objective_power == 20
    jpeg = (tmp_path / "a.ndpi").read_bytes()[12:]
    with Image.open(io.BytesIO(jpeg)) as whole:  # the same JPEG decoded in one piece by Pillow
        assert error(pixels, np.asarray(whole)) < 0.2
    assert error(pixels, rgb) < JPEG_ERROR


def test_leica_scn_of_one_area(tmp_path):
    slidefiles.write_scn(tmp_path / "a.scn", RGB)
    reader, shapes, pixels = look(tmp_path / "a.scn")
    assert (reader.name, reader.format, shapes) == ("tifffile", "scn", TWO_LEVELS)
    assert (reader.mpp_um, reader.objective_power) == ((0.5, 0.5), 20)
    assert error(pixels, RGB) < JPEG_ERROR


def test_leica_scn_of_several_areas_is_put_together(tmp_path):
    slidefiles.write_scn(tmp_path / "a.scn", RGB, areas=2)
    reader, _, pixels = look(tmp_path / "a.scn")
    assert (reader.name, reader.format, reader.mpp_um) == ("openslide", "leica", (0.5, 0.5))
    y, x, height, width = reader.bounds
    assert (height, width) == (300, 1200)
    assert error(pixels[:, y : y + 300, x : x + 400], RGB) < JPEG_ERROR
    assert error(pixels[:, y : y + 300, x + 800 : x + 1200], RGB) < JPEG_ERROR
    assert (pixels[:, y : y + 300, x + 401 : x + 799] == 255).all()


def test_philips_tiff(tmp_path):
    slidefiles.write_philips(tmp_path / "a.tiff", RGB)
    reader, shapes, pixels = look(tmp_path / "a.tiff")
    assert (reader.name, reader.format, shapes) == ("tifffile", "philips", TWO_LEVELS)
    assert reader.mpp_um == (0.25, 0.25)
    np.testing.assert_array_equal(pixels, openslide_pixels(tmp_path / "a.tiff"))
    assert error(pixels, RGB) < JPEG_ERROR


def test_ventana_bif(tmp_path):
    rgb = slidefiles.picture(512, 768)
    slidefiles.write_bif(tmp_path / "a.bif", rgb)
    reader, shapes, pixels = look(tmp_path / "a.bif")
    assert (reader.name, reader.format) == ("openslide", "ventana")
    assert shapes == [(512, 768, 1.0), (256, 384, 2.0)]
    assert (reader.mpp_um, reader.objective_power) == ((0.5, 0.5), 20)
    assert error(pixels, rgb) < JPEG_ERROR


def test_trestle(tmp_path):
    slidefiles.write_trestle(tmp_path / "a.tif", RGB)
    reader, shapes, pixels = look(tmp_path / "a.tif")
    assert (reader.name, reader.format, shapes) == ("openslide", "trestle", TWO_LEVELS)
    assert reader.mpp_um == (0.5, 0.5)
    assert error(pixels, RGB) < JPEG_ERROR


def test_mirax(tmp_path):
    rgb = slidefiles.picture(512, 768)
    slideformats.write_mrxs(tmp_path / "a.mrxs", rgb)
    reader, shapes, pixels = look(tmp_path / "a.mrxs")
    assert (reader.name, reader.format, shapes) == ("openslide", "mirax", [(512, 768, 1.0)])
    assert (reader.mpp_um, reader.objective_power) == ((0.5, 0.5), 20)
    assert error(pixels, rgb) < JPEG_ERROR


def test_qptiff(tmp_path):
    channels = np.random.default_rng(0).integers(0, 4000, (2, 300, 400), np.uint16)
    slidefiles.write_qptiff(tmp_path / "a.qptiff", channels)
    reader, shapes, pixels = look(tmp_path / "a.qptiff")
    assert (reader.format, shapes) == ("qpi", TWO_LEVELS)
    assert (reader.channels, reader.mpp_um) == (["DAPI", "FITC"], (0.5, 0.5))
    assert reader.objective_power == 20
    np.testing.assert_array_equal(pixels, channels)


@pytest.mark.parametrize("count", [1, 3])
def test_ome_tiff_with_a_pyramid_in_subifds(tmp_path, count):
    channels = np.random.default_rng(0).integers(0, 4000, (count, 300, 400), np.uint16)
    names = [f"stain {i}" for i in range(count)]
    slidefiles.write_ome(tmp_path / "a.tif", channels, 2, mpp=0.65, names=names, compression="zlib")
    reader, shapes, pixels = look(tmp_path / "a.tif")
    assert (reader.format, shapes, reader.mpp_um) == ("ome", TWO_LEVELS, (0.65, 0.65))
    assert (reader.channels, reader.dtype) == (names, np.uint16)
    np.testing.assert_array_equal(pixels, channels)


def test_ome_units(tmp_path):
    metadata = {"axes": "YX", "PhysicalSizeX": 650, "PhysicalSizeXUnit": "nm"}
    metadata |= {"PhysicalSizeY": 0.00065, "PhysicalSizeYUnit": "mm"}
    tifffile.imwrite(tmp_path / "a.tif", RGB[..., 0], ome=True, metadata=metadata)
    np.testing.assert_allclose(look(tmp_path / "a.tif")[0].mpp_um, (0.65, 0.65))


def test_generic_pyramid_with_a_resolution(tmp_path):
    size = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    slidefiles.write_pyramid(tmp_path / "a.tif", RGB, levels=2, **size)
    reader, shapes, pixels = look(tmp_path / "a.tif")
    assert (reader.format, shapes, reader.mpp_um) == ("generic", TWO_LEVELS, (0.5, 0.5))
    np.testing.assert_array_equal(pixels, slidefiles.channels_first(RGB))


def test_a_printers_resolution_is_no_pixel_size(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RGB, resolution=(300, 300), resolutionunit="INCH")
    assert look(tmp_path / "a.tif")[0].mpp_um is None


def test_dicom_series(tmp_path):
    """From any of its files or the folder; the label beside it is left; as OpenSlide has it."""
    big = slidefiles.picture(520, 700)
    slideformats.write_dicom(tmp_path / "a.dcm", big)
    slideformats.write_dicom(tmp_path / "b.dcm", np.ascontiguousarray(big[::2, ::2]))
    slideformats.write_dicom(tmp_path / "c.dcm", big[:256, :256], kind="LABEL")
    shapes = [(520, 700, 1.0), (260, 350, 2.0)]
    for path in (tmp_path, tmp_path / "a.dcm", tmp_path / "b.dcm"):
        reader, found, pixels = look(path)
        assert (reader.name, reader.format, found) == ("pydicom", "dicom", shapes)
        assert (reader.mpp_um, reader.objective_power) == ((0.5, 0.5), 20)
        assert error(pixels, big) < JPEG_ERROR
    np.testing.assert_array_equal(pixels, openslide_pixels(tmp_path / "a.dcm"))


def test_dicom_of_grey_frames_without_compression(tmp_path):
    grey = np.random.default_rng(0).integers(0, 4000, (300, 400), np.uint16)
    slideformats.write_dicom(tmp_path / "a.dcm", grey)
    reader, _, pixels = look(tmp_path / "a.dcm")
    assert (reader.channels, reader.codec) == (["grey"], "uncompressed")
    np.testing.assert_array_equal(pixels[0], grey)


def test_dicom_with_frames_only_where_tissue_is(tmp_path):
    slideformats.write_dicom(tmp_path / "a.dcm", RGB, tile=128, leave_out={(0, 1), (2, 3)})
    pixels = look(tmp_path / "a.dcm")[2]
    assert (pixels[:, :128, 128:256] == 255).all() and (pixels[:, 256:, 384:] == 255).all()
    assert error(pixels[:, 128:256], RGB[128:256]) < JPEG_ERROR


def test_dicom_label_is_not_the_slide(tmp_path):
    slideformats.write_dicom(tmp_path / "a.dcm", RGB, kind="LABEL")
    with pytest.raises(SlideError, match="only the slide's label"):
        open_slide(tmp_path / "a.dcm")


def test_dicom_that_does_not_say_where_its_frames_lie(tmp_path):
    """In rows: taken from the picture itself; noise has no order and is refused."""
    slideformats.write_dicom(tmp_path / "a.dcm", slidefiles.picture(512, 768), organised=False)
    assert error(look(tmp_path / "a.dcm")[2], slidefiles.picture(512, 768)) < JPEG_ERROR
    noise = np.random.default_rng(0).integers(0, 255, (512, 768, 3), np.uint8)
    slideformats.write_dicom(tmp_path / "b.dcm", noise, organised=False)
    with pytest.raises(SlideError, match="where its frames lie"):
        open_slide(tmp_path / "b.dcm")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path, version):
    channels = np.random.default_rng(0).integers(0, 4000, (2, 300, 400), np.uint16)
    colours = ["00FFFF", "FF00FF"]
    slideformats.write_omezarr(tmp_path / "a", channels, version=version, colours=colours)
    reader, shapes, pixels = look(tmp_path / "a")
    assert (reader.name, shapes, reader.mpp_um) == ("zarr", TWO_LEVELS, (0.5, 0.5))
    assert (reader.format, reader.channels) == (f"ome-zarr {version}", colours)
    np.testing.assert_array_equal(pixels, channels)


def test_ome_zarr_in_colour(tmp_path):
    colours = ["FF0000", "00FF00", "0000FF"]
    slideformats.write_omezarr(tmp_path / "a", slidefiles.channels_first(RGB), colours=colours)
    reader, _, pixels = look(tmp_path / "a")
    assert reader.channels == ["red", "green", "blue"]
    np.testing.assert_array_equal(pixels, slidefiles.channels_first(RGB))


@needs_data
def test_real_svs_equals_openslide():
    path = DATA / "slides/CMU-1-Small-Region.svs"
    reader, shapes, pixels = look(path)
    assert (shapes, reader.mpp_um) == ([(2967, 2220, 1.0)], (0.499, 0.499))
    np.testing.assert_array_equal(pixels, openslide_pixels(path))


@needs_data
def test_real_dicom_that_openslide_refuses():
    """Its frames run down the columns and its JPEGs are YCbCr, which its header does not say."""
    reader, shapes, pixels = look(DATA / "slides/small_dicom.dcm")
    assert (reader.name, shapes, reader.mpp_um) == ("pydicom", [(2638, 3236, 1.0)], None)
    assert abs(pixels[:, 1800:2000, 1700:1900].astype(int) - 240).max() < 25  # the glass between
    steps = np.abs(np.diff(pixels[:, :, 499:501].astype(int), axis=2)).mean()
    assert steps < 2 * np.abs(np.diff(pixels[:, :, 500:502].astype(int), axis=2)).mean()


@needs_data
@pytest.mark.parametrize(
    "name,channels,dtype,mpp",
    [
        ("cells-2c.ome.tif", 2, "uint8", (0.25, 0.25)),
        ("cells-gray16.tif", 1, "uint16", (0.25, 0.25)),
        ("cells-gray32.tif", 1, "float32", (0.25, 0.25)),
        ("cells.ome.tif", 3, "uint8", (0.25, 0.25)),
        ("multi-channel.ome.tif", 3, "int8", None),
        ("small_vectra.qptiff", 3, "uint8", (0.4965346, 0.4965346)),
        ("boxes.tiff", 3, "uint8", None),
    ],
)
def test_real_files(name, channels, dtype, mpp):
    reader, _, pixels = look(DATA / "slides" / name)
    expected = tifffile.imread(DATA / "slides" / name, series=0)
    expected = expected if expected.ndim == 3 else expected[None]
    expected = expected if expected.shape[0] == channels else np.moveaxis(expected, -1, 0)
    assert (len(reader.channels), reader.dtype) == (channels, np.dtype(dtype))
    assert reader.mpp_um is mpp if mpp is None else np.allclose(reader.mpp_um, mpp)
    np.testing.assert_array_equal(pixels, expected)
