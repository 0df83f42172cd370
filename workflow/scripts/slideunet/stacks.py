"""One section of a stack (z, t, sections) as a reader: only that section is read."""

import math

import numpy as np
import tifffile
import zarr

from slideunet.errors import SlideError, UserError
from slideunet.readers import tiff_facts
from slideunet.readers.base import Level, SlideReader
from slideunet.readers.omezarr import OmeZarrReader, section_counts
from slideunet.readers.open import is_zarr_folder
from slideunet.readers.tiff_check import check_tiff, is_tiff
from slideunet.readers.tiff_colour import Colour


def page_count(path: str) -> int | None:
    """How many sections a TIFF or an OME-Zarr holds (all axes but channels), None for the rest."""
    if is_zarr_folder(path):
        return math.prod(section_counts(path))
    try:
        with open(path, "rb") as file:
            if not is_tiff(file.read(4)):
                return None
    except OSError:
        return None  # missing, or another folder: who opens it says so
    with _open_tiff(path) as tif:
        return math.prod(size for _, size in _page_axes(tif.series[0]))


def open_section(path: str, page: int) -> SlideReader:
    """The reader of one section, counted from 0 over all axes but channels.

    Raises UserError, with the number there is, for a page that is not there.
    """
    count = page_count(path)
    if count is None or page >= count:
        raise UserError(
            f"{path}: page {page} is wanted, the last of its {count} is {(count or 1) - 1}"
        )
    if is_zarr_folder(path):
        return OmeZarrReader(path, page=page, labels=True)
    return TiffSection(path, page)


class TiffSection(SlideReader):
    """A section of a TIFF stack, of one level."""

    name = "tifffile"

    def __init__(self, path: str, page: int):
        super().__init__(path)
        self._page = page
        self._tif = _open_tiff(path)
        try:
            self._describe()
        except BaseException:
            self._tif.close()
            raise

    def _describe(self) -> None:
        series = self._tif.series[0]
        self._axes = series.axes
        sizes = dict(zip(series.axes, series.shape, strict=True))
        pages = dict(_page_axes(series))
        place = np.unravel_index(self._page, list(pages.values())) if pages else ()
        self._place = {axis: int(index) for axis, index in zip(pages, place, strict=True)}
        self._colour = Colour(self.path, series.keyframe, series.kind)
        self.levels = [Level(sizes["Y"], sizes["X"], 1.0)]
        self.mpp_um = tiff_facts.pixel_size(self.path, self._tif, series.kind, series)
        first = self._samples(0, 0, 1, 1)
        pixels = np.concatenate([self._colour.convert(plane) for plane in first])
        self.dtype = pixels.dtype
        named = self._colour.names(len(first))
        self.channels = named or [f"channel {index}" for index in range(len(pixels))]

    def _samples(self, y: int, x: int, height: int, width: int) -> np.ndarray:
        """(C, S, Y, X) as stored."""
        place = {**self._place, "Y": slice(y, y + height), "X": slice(x, x + width)}
        try:
            stored = zarr.open_array(self._tif.series[0].aszarr(level=0), mode="r")
            values = stored[tuple(place.get(axis, slice(None)) for axis in self._axes)]
            return _with_axes(values, [axis for axis in self._axes if axis in "CYXS"])
        except (MemoryError, OSError):
            raise
        except Exception as error:  # decoders raise what they like
            raise SlideError(
                f"{self.path}: page {self._page} does not decode: {error!r}"
            ) from error

    def _read(self, level: int, y: int, x: int, height: int, width: int) -> np.ndarray:
        samples = self._samples(y, x, height, width)
        return np.concatenate([self._colour.convert(plane) for plane in samples])

    def _close(self) -> None:
        self._tif.close()


def _open_tiff(path: str) -> tifffile.TiffFile:
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


def _with_axes(values: np.ndarray, axes: list[str]) -> np.ndarray:
    """Values with the named axes as (C, S, Y, X); an axis that is missing has length 1."""
    for axis in "CS":
        if axis not in axes:
            values, axes = values[None], [axis, *axes]
    return np.transpose(values, [axes.index(axis) for axis in "CSYX"])
