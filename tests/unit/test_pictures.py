"""Pictures: stretched grey values, outlines inside objects, equal bytes."""

import numpy as np
import pytest
from PIL import Image
from slideunet.pictures import contrast, overlay, shrunk, side_by_side, to_rgb, write_png


def test_grey_is_stretched_between_low_and_high():
    image = np.array([[[100, 200, 300, 400]]], dtype=np.uint16)
    rgb = to_rgb(image, 200, 400)
    assert rgb.shape == (1, 4, 3)
    assert rgb.dtype == np.uint8
    assert rgb[0, :, 0].tolist() == [0, 0, 128, 255]
    assert (rgb[..., 0:1] == rgb).all()
    assert to_rgb(image, 200, 400, gamma=0.5)[0, :, 0].tolist() == [0, 0, 180, 255]


def test_contrast_is_per_channel_and_leaves_nan_out():
    image = np.stack([np.arange(1000.0), np.arange(1000.0) * 2]).reshape(2, 20, 50)
    image[0, 0, 0] = np.nan
    low, high = contrast(image, 10, 90)
    assert low == pytest.approx([100.8, 199.8], abs=0.01)
    assert high == pytest.approx([899.2, 1798.2], abs=0.01)
    with np.errstate(all="raise"):  # NaN as uint8 is whatever the processor makes of it
        assert to_rgb(image[:1])[0, 0].tolist() == [0, 0, 0]


def test_colour_stays_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (3, 5, 7), dtype=np.uint8)
    assert np.array_equal(to_rgb(image), np.moveaxis(image, 0, 2))
    assert np.array_equal(to_rgb(image.astype(np.uint16), 0, 255), np.moveaxis(image, 0, 2))


def test_channels_are_added_up_and_an_even_image_is_black():
    image = np.zeros((5, 4, 4), np.float32)
    with np.errstate(all="raise"):
        assert to_rgb(image).max() == 0
        assert to_rgb(image + 1, 0, 0).min() == 255  # all of it above `high`
    image[1, 0, 0] = 1
    image[2, 0, 0] = 1
    rgb = to_rgb(image, 0, 1)
    assert rgb[0, 0].tolist() == [255, 255, 120]  # green and red
    assert rgb[1, 1].tolist() == [0, 0, 0]


def test_outlines_lie_inside_their_objects():
    label = np.zeros((12, 14), int)
    label[2:8, 2:7], label[2:8, 7:12] = 1, 2  # touching
    picture = np.full((12, 14, 3), 9, np.uint8)
    drawn = overlay(picture, label, (1, 2, 3))
    outline = (drawn == (1, 2, 3)).all(axis=2)
    inner = np.zeros_like(outline)
    inner[3:7, 3:6] = inner[3:7, 8:11] = True
    assert np.array_equal(outline, (label > 0) & ~inner)
    assert (drawn[~outline] == 9).all()
    assert (picture == 9).all()  # the input stays
    thick = (overlay(picture, label, (1, 2, 3), width_px=2) == (1, 2, 3)).all(axis=2)
    inner[:] = False
    inner[4:6, 4:5] = inner[4:6, 9:10] = True
    assert np.array_equal(thick, (label > 0) & ~inner)


def test_what_nobody_annotated_is_dimmed():
    label = np.zeros((4, 6), int)
    label[:, 3:] = -1
    drawn = overlay(np.full((4, 6, 3), 100, np.uint8), label)
    assert (drawn[:, :3] == 100).all()
    assert (drawn[:, 3:] == 40).all()


def test_unlike_sizes():
    with pytest.raises(ValueError, match="label is"):
        overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), int))


def test_shrunk_averages():
    picture = np.zeros((8, 16, 3), np.uint8)
    picture[::2] = 200
    small = shrunk(picture, 4)
    assert small.shape == (2, 4, 3)
    assert (small == 100).all()
    assert shrunk(picture, 16) is picture


def test_side_by_side():
    row = side_by_side([np.zeros((4, 3, 3), np.uint8), np.full((2, 5, 3), 7, np.uint8)])
    assert row.shape == (4, 16, 3)
    assert (row[:, 3:11] == 255).all()
    assert (row[:2, 11:] == 7).all()
    assert (row[2:, 11:] == 255).all()


def test_png_keeps_pixels_and_bytes(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    write_png(tmp_path / "a.png", picture)
    write_png(tmp_path / "b.png", picture)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
    assert b"tIME" not in (tmp_path / "a.png").read_bytes()
