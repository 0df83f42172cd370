"""A training image, whole or a region of it, from any file that holds one.

Single pictures (PNG, JPEG, TIFF, OME-TIFF, OME-Zarr and all slides) are read by the slide readers,
so that min-is-white, palettes, alpha and colour spaces mean the same in training as in a slide;
only stacks, which no slide is, are read here.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import tifffile
import zarr

from slideunet.errors import SlideError, UserError
from slideunet.readers import tiff_facts
from slideunet.readers.base import check_mpp
from slideunet.readers.open import open_slide
from slideunet.readers.tiff_check import check_tiff, is_tiff
from slideunet.readers.tiff_colour import Colour

# One picture of a training set; 26,000 x 26,000 RGB. A slide above it is trained on by regions.
IMAGE_BYTES_MAX = 2 * 2**30

Region = tuple[int, int, int, int]  # y, x, height, width in px of the whole picture


@dataclass(frozen=True)
class Picture:
    """Pixels (C, Y, X) as the file holds them, of the region (y, x, height, width) read.

    `whole_yx` is the size of the whole picture, `bounds_yx` where the scanned area begins on a
    slide (QuPath counts from there), `mpp_um` the pixel size (y, x) as written, or None.
    """

    pixels: np.ndarray
    region: Region
    whole_yx: tuple[int, int]
    channels: list[str]
    mpp_um: tuple[float, float] | None = None
    bounds_yx: tuple[int, int] = (0, 0)


def read_image(path: str, page: int | None = None, region: Region | None = None) -> Picture:
    """Read a training image as uint8, uint16 or float32 (C, Y, X).

    Other kinds of number become float32: above 2^24 their last digits go. Raises UserError for
    what can't be read, a page or region that is not there, and values that are no numbers.
    """
    picture = read_picture(path, page, region)
    pixels = picture.pixels
    if pixels.dtype not in (np.uint8, np.uint16):
        with np.errstate(over="ignore"):  # becomes infinite, which is refused below
            pixels = pixels.astype(np.float32)
        bad = ~np.isfinite(pixels)
        if bad.any():
            channel, y, x = (int(where[0]) for where in np.nonzero(bad))
            raise UserError(
                f"{path}: {int(bad.sum())} values are NaN or infinite, the first in channel "
                f"{channel} at y={y + picture.region[0]} x={x + picture.region[1]}: mend the image"
            )
    return replace(picture, pixels=np.ascontiguousarray(pixels))


def read_picture(path: str, page: int | None = None, region: Region | None = None) -> Picture:
    """Read a picture with the values and the number type of the file."""
    if page is not None and page_count(path) is not None:
        return _read_section(path, page, region)
    if page:
        raise UserError(f"{path}: page {page} is wanted, and it holds one picture: leave page out")
    try:
        with open_slide(path) as reader:
            level = reader.levels[0]
            window = window_of(path, region, (level.height, level.width))
            _check_size(path, window, len(reader.channels), reader.dtype)
            pixels = reader.read(0, *window)
            bounds = (reader.bounds or (0, 0))[:2]
            whole = (level.height, level.width)
            return Picture(
                pixels, window, whole, list(reader.channels), reader.mpp_um, tuple(bounds)
            )
    except SlideError:
        pages = page_count(path)
        if pages is not None and pages > 1:
            raise UserError(
                f"{path}: a stack of {pages} sections: say which in column page (0 to {pages - 1})"
            ) from None
        raise


def page_count(path: str) -> int | None:
    """How many sections a TIFF holds (all axes but channels), or None for what is no TIFF."""
    try:
        with open(path, "rb") as file:
            if not is_tiff(file.read(4)):
                return None
    except OSError:
        return None  # missing, or a folder: who opens it says so
    with _open_stack(path) as tif:
        return math.prod(size for _, size in _page_axes(tif.series[0]))


def window_of(path: str, region: Region | None, whole_yx: tuple[int, int]) -> Region:
    """The region, or all of the picture; UserError where it is empty or leaves the picture."""
    if region is None:
        return (0, 0, *whole_yx)
    y, x, height, width = region
    if min(height, width) < 1 or y + height > whole_yx[0] or x + width > whole_yx[1]:
        raise UserError(
            f"{path}: region y={y} x={x} of {height} x {width} px is not within the image of "
            f"{whole_yx[0]} x {whole_yx[1]} px (height x width)"
        )
    return region


def pixel_size_um(picture: Picture, path: str, given: str | None) -> float | None:
    """The pixel size for the model card: the table's, else the file's, else None (unknown)."""
    try:
        if given is not None:
            mpp = check_mpp(path, (float(given), float(given)))
        else:
            mpp = check_mpp(path, picture.mpp_um)
    except SlideError:
        said = f"{given} in the table" if given is not None else f"{picture.mpp_um} in the file"
        raise UserError(
            f"{path}: a pixel size of {said} can't be true: give it in um in column mpp_um"
        ) from None
    return None if mpp is None else sum(mpp) / 2


def _open_stack(path: str) -> tifffile.TiffFile:
    check_tiff(path)
    try:
        tif = tifffile.TiffFile(path, _multifile=False)
        if not tif.series or "Y" not in tif.series[0].axes:
            raise ValueError("it holds no picture")
        return tif
    except (MemoryError, OSError):
        raise
    except Exception as error:  # tifffile meets damage with whatever comes first
        raise SlideError(f"{path}: not readable as TIFF: {error!r}") from error


def _page_axes(series: tifffile.TiffPageSeries) -> list[tuple[str, int]]:
    return [
        (axis, size)
        for axis, size in zip(series.axes, series.shape, strict=True)
        if axis not in "CYXS"
    ]


def _read_section(path: str, page: int, region: Region | None) -> Picture:
    """One section of a TIFF stack: the others are not read."""
    with _open_stack(path) as tif:
        series = tif.series[0]
        pages = _page_axes(series)
        count = math.prod(size for _, size in pages)
        if page >= count:
            raise UserError(
                f"{path}: page {page} is wanted, the last of its {count} is {count - 1}"
            )
        sizes = dict(zip(series.axes, series.shape, strict=True))
        window = window_of(path, region, (sizes["Y"], sizes["X"]))
        _check_size(path, window, sizes.get("C", 1) * sizes.get("S", 1), series.dtype)
        y, x, height, width = window
        place = dict(zip(dict(pages), np.unravel_index(page, [n for _, n in pages]), strict=True))
        place = {axis: int(index) for axis, index in place.items()}
        place |= {"Y": slice(y, y + height), "X": slice(x, x + width)}
        colour = Colour(path, series.keyframe, series.kind)
        try:
            stored = zarr.open_array(series.aszarr(level=0), mode="r")
            values = stored[tuple(place.get(axis, slice(None)) for axis in series.axes)]
            samples = _with_axes(values, [axis for axis in series.axes if axis in "CYXS"])
            pixels = np.concatenate([colour.convert(plane) for plane in samples])
        except (MemoryError, OSError):
            raise
        except Exception as error:  # decoders raise what they like
            raise SlideError(f"{path}: page {page} does not decode: {error!r}") from error
        mpp = tiff_facts.pixel_size(path, tif, series.kind, series)
    named = colour.names(len(samples)) or [f"channel {index}" for index in range(len(pixels))]
    return Picture(pixels, window, (sizes["Y"], sizes["X"]), named, mpp)


def _with_axes(values: np.ndarray, axes: list[str]) -> np.ndarray:
    """Values with the named axes as (C, S, Y, X); an axis that is missing has length 1."""
    for axis in "CS":
        if axis not in axes:
            values, axes = values[None], [axis, *axes]
    return np.transpose(values, [axes.index(axis) for axis in "CSYX"])


def _check_size(path: str, window: Region, channels: int, dtype: np.dtype) -> None:
    size = window[2] * window[3] * channels * np.dtype(dtype).itemsize
    if size > IMAGE_BYTES_MAX:
        raise UserError(
            f"{path}: {window[2]} x {window[3]} px are {size >> 20} MB, more than the "
            f"{IMAGE_BYTES_MAX >> 20} MB of a training image: cut regions from it (column region)"
        )
