"""The slide at another pixel size: one global grid, exact crops, honest averages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slideunet import resample
from slideunet.errors import SlideError
from slideunet.readers.base import SlideReader, levels_of
from slideunet.resample import SlideView, view_at


class ArrayReader(SlideReader):
    """A slide in memory: level 0 and its halves."""

    def __init__(self, image, levels=1):
        super().__init__("memory")
        self.arrays = [image[:, :: 2**i, :: 2**i] for i in range(levels)]
        self.levels = levels_of("memory", [a.shape[1:] for a in self.arrays])
        self.dtype, self.channels = image.dtype, [str(i) for i in range(len(image))]
        self.windows = []

    def _read(self, level, y, x, height, width):
        self.windows.append((level, y, x, height, width))
        return self.arrays[level][:, y : y + height, x : x + width]

    def _close(self):
        pass


RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 65535, (2, 211, 307), np.uint16)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_any_window_equals_the_crop_of_the_whole(data):
    dtype = data.draw(st.sampled_from(["uint8", "uint16", "float32", "int32"]))
    reader = ArrayReader(IMAGE.astype(dtype), levels=data.draw(st.integers(1, 3)))
    scale = tuple(
        data.draw(st.sampled_from([0.4, 0.99, 1.3, 2, 2.9, 3.999, 7.3, 40])) for _ in "yx"
    )
    view = SlideView(reader, scale)
    whole = view.read(0, 0, view.height, view.width)
    y, x = (data.draw(st.integers(0, n - 1)) for n in (view.height, view.width))
    height = data.draw(st.integers(1, view.height - y))
    width = data.draw(st.integers(1, view.width - x))
    window = view.read(y, x, height, width)
    assert window.dtype == reader.dtype
    assert np.array_equal(window, whole[:, y : y + height, x : x + width])


def test_bands_do_not_show(monkeypatch):
    view = SlideView(ArrayReader(IMAGE), (2.3, 3.1))
    whole = view.read(0, 0, view.height, view.width)
    monkeypatch.setattr(resample, "_BAND_BYTES", 5000)
    assert np.array_equal(view.read(0, 0, view.height, view.width), whole)


def test_shrinking_is_the_mean_of_the_area_covered():
    image = IMAGE.astype(np.float64)
    view = SlideView(ArrayReader(image), (3.0, 2.5))
    assert (view.height, view.width) == (70, 123)
    pixels = view.read(0, 0, 70, 123)
    # Five half pixels to a pixel and a half: repeat each pixel twice along x, take plain means.
    fine = np.repeat(image, 2, axis=2)[:, :210, :610].reshape(2, 70, 3, 122, 5).mean((2, 4))
    np.testing.assert_allclose(pixels[:, :, :122], fine, rtol=1e-6)
    np.testing.assert_allclose(pixels.mean(), image[:, :210].mean(), rtol=1e-3)


def test_enlarging_is_linear():
    ramp = np.broadcast_to(np.arange(50, dtype=np.float32) * 4, (1, 40, 50))
    view = SlideView(ArrayReader(np.ascontiguousarray(ramp)), (0.5, 0.25))
    assert (view.height, view.width) == (80, 200)
    row = view.read(0, 10, 5, 180)[0, 0]
    # The first, pixel 10, has its centre at 10.5 / 4 - 0.5 = 2.125 of the ramp of 4 per pixel.
    np.testing.assert_allclose(row, 8.5 + np.arange(180), atol=1e-3)


def test_constant_pictures_stay_constant():
    for dtype in (np.uint8, np.uint16, np.float32):
        view = SlideView(ArrayReader(np.full((1, 97, 53), 201, dtype)), (2.7, 0.6))
        pixels = view.read(0, 0, view.height, view.width)
        np.testing.assert_allclose(pixels, 201, rtol=1e-6 if dtype == np.float32 else 0)


def test_what_lies_beside_a_window_does_not_leak_in():
    image = np.zeros((1, 64, 64), np.float32)
    image[:, 30:] = np.inf  # 12 pixels of the view end at 30
    view = SlideView(ArrayReader(image), (2.5, 2.5))
    assert (view.read(0, 0, 12, 20) == 0).all()


def test_equal_sizes_are_read_as_they_are():
    reader = ArrayReader(IMAGE, levels=3)
    for scale, level in ((1.0, 0), (1.015, 0), (0.985, 0), (2.0, 1), (1.97, 1), (4.05, 2)):
        view = SlideView(reader, (scale, scale))
        assert (view.level, view.identity, view.ratio_yx) == (level, True, (1, 1))
        assert view.scale_yx == (2**level, 2**level)
        assert np.array_equal(view.read(3, 5, 20, 30), reader.arrays[level][:, 3:23, 5:35])


def test_the_nearest_finer_level_is_the_source():
    reader = ArrayReader(IMAGE, levels=3)
    for scale, level in ((1.5, 0), (2.1, 1), (3.9, 1), (5.0, 2), (0.5, 0)):
        view = SlideView(reader, (scale, scale))
        reader.windows.clear()
        view.read(0, 0, 2, 2)
        assert {window[0] for window in reader.windows} == {level}


def test_only_the_pixels_needed_are_read():
    reader = ArrayReader(IMAGE)
    SlideView(reader, (2.5, 2.5)).read(10, 20, 4, 8)
    ((_, y, x, height, width),) = reader.windows
    assert (y, x) == (25, 50) and height <= 12 and width <= 22


def test_views_at_a_models_pixel_size():
    reader = ArrayReader(IMAGE)
    assert view_at(reader, (0.25, 0.25), 0.5).scale_yx == (2, 2)
    assert view_at(reader, (0.25, 0.2499), 0.5).scale_yx == pytest.approx((2, 2.0008))
    assert view_at(reader, None, None).identity
    assert view_at(reader, (0.25, 0.25), None).identity
    with pytest.raises(SlideError, match=r"^memory: has no pixel size.*0\.5 um.*mpp_um"):
        view_at(reader, None, 0.5)


def test_windows_outside_the_view_are_a_programmers_error():
    view = SlideView(ArrayReader(IMAGE), (2, 2))
    with pytest.raises(ValueError, match="leaves the view"):
        view.read(100, 0, 10, 10)
