"""A training image, whole or a region of it, from any file that holds one.

Single pictures (PNG, JPEG, TIFF, OME-TIFF, OME-Zarr and all slides) are read by the slide readers,
so that min-is-white, palettes, alpha and colour spaces mean the same in training as in a slide;
only stacks, which no slide is, have readers of their own (stacks.py). Where another pixel size is
wanted the picture is resampled as it is read, on the same grid as a slide is for its segmentation.
"""

from dataclasses import dataclass, replace

import numpy as np

from slideunet.errors import SlideError, UserError
from slideunet.readers.base import SlideReader, check_mpp
from slideunet.readers.omezarr import OmeZarrReader
from slideunet.readers.open import is_zarr_folder, open_slide
from slideunet.resample import SlideView
from slideunet.stacks import open_section, page_count

# One picture of a training set; 26,000 x 26,000 RGB. A slide above it is trained on by regions.
IMAGE_BYTES_MAX = 2 * 2**30

Region = tuple[int, int, int, int]  # y, x, height, width in px of the whole picture


@dataclass(frozen=True)
class Picture:
    """Pixels (C, Y, X) as the file holds them, of the region (y, x, height, width) read.

    `whole_yx` is the size of the whole picture; where it was resampled, it and `region` count in
    the new pixels, of `scale_yx` pixels of the file each, and `file_yx` is the file's own size.
    `bounds_yx` is where the scanned area begins on a slide (QuPath counts from there), in the
    file's pixels; `mpp_um` the pixel size (y, x) of the file as written, or None.
    """

    pixels: np.ndarray
    region: Region
    whole_yx: tuple[int, int]
    channels: list[str]
    mpp_um: tuple[float, float] | None = None
    bounds_yx: tuple[int, int] = (0, 0)
    scale_yx: tuple[float, float] = (1.0, 1.0)
    file_yx: tuple[int, int] | None = None


class ImageFile:
    """An open picture at its own pixel size, or at `to_mpp_um`: a context manager.

    `mpp_um` is what the table says of the file's pixel size, None where it says nothing. Raises
    UserError for what can't be opened, and where another pixel size is wanted and none is known.
    """

    def __init__(
        self,
        path: str,
        page: int | None = None,
        *,
        mpp_um: float | None = None,
        to_mpp_um: float | None = None,
    ):
        self.path = path
        self.reader = open_picture(path, page)
        try:
            self.view = SlideView(self.reader, self._scale(mpp_um, to_mpp_um))
        except BaseException:
            self.reader.close()
            raise
        level = self.reader.levels[0]
        self.file_yx = (level.height, level.width)
        self.whole_yx = (self.view.height, self.view.width)
        self.bounds_yx = tuple((self.reader.bounds or (0, 0))[:2])
        self.scale_yx = self.view.scale_yx

    def _scale(self, given: float | None, wanted: float | None) -> tuple[float, float]:
        if wanted is None:
            return (1.0, 1.0)
        checked_mpp(self.path, (wanted, wanted), "table", "to_mpp_um")
        known = self.reader.mpp_um if given is None else (given, given)
        sizes = checked_mpp(self.path, known, "table" if given is not None else "file")
        if sizes is None:
            raise UserError(
                f"{self.path}: has no pixel size, so it can't be brought to {wanted:g} um "
                "(to_mpp_um): give it in column mpp_um"
            )
        return wanted / sizes[0], wanted / sizes[1]

    def region_of(self, region: Region | None) -> Region:
        """A region in the file's pixels, None for all of it, in the pixels that are read.

        Raises UserError where it is empty or leaves the picture.
        """
        window = window_of(self.path, region, self.file_yx)
        if self.scale_yx == (1.0, 1.0):
            return window
        if region is None:
            return (0, 0, *self.whole_yx)
        spans = []
        for axis in (0, 1):
            scale, size = self.scale_yx[axis], self.whole_yx[axis]
            first = min(round(window[axis] / scale), size - 1)
            last = min(round((window[axis] + window[axis + 2]) / scale), size)
            spans.append((first, max(last - first, 1)))
        (y, height), (x, width) = spans
        return y, x, height, width

    def read(self, region: Region) -> Picture:
        """One region in the pixels that are read, with the values and number type of the file."""
        _check_size(self.path, region, len(self.reader.channels), self.reader.dtype)
        return Picture(
            self.view.read(*region), region, self.whole_yx, list(self.reader.channels),
            self.reader.mpp_um, self.bounds_yx, self.scale_yx, self.file_yx,
        )  # fmt: skip

    def __enter__(self) -> "ImageFile":
        return self

    def __exit__(self, *exc) -> None:
        self.reader.close()


def open_picture(path: str, page: int | None = None) -> SlideReader:
    """The reader of a picture, of a label image (OME-Zarr's labels too), or of a stack's page."""
    pages = page_count(path)
    if page is not None and pages is not None:
        return open_section(path, page)
    if page:
        raise UserError(f"{path}: page {page} is wanted, and it holds one picture: leave page out")
    try:
        return OmeZarrReader(path, labels=True) if is_zarr_folder(path) else open_slide(path)
    except SlideError:
        if pages is not None and pages > 1:
            raise UserError(
                f"{path}: a stack of {pages} sections: say which in column page (0 to {pages - 1})"
            ) from None
        raise


def read_picture(path: str, page: int | None = None, region: Region | None = None) -> Picture:
    """Read a picture with the values and the number type of the file."""
    with ImageFile(path, page) as file:
        return file.read(file.region_of(region))


def read_image(path: str, page: int | None = None, region: Region | None = None) -> Picture:
    """Read a training image as uint8, uint16 or float32 (C, Y, X); see `for_training`."""
    return for_training(path, read_picture(path, page, region))


def for_training(path: str, picture: Picture) -> Picture:
    """The picture with pixels as uint8, uint16 or float32.

    Other kinds of number become float32: above 2^24 their last digits go. Raises UserError for
    values that are no numbers.
    """
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
    if given is not None:
        mpp = checked_mpp(path, (float(given), float(given)), "table")
    else:
        mpp = checked_mpp(path, picture.mpp_um, "file")
    return None if mpp is None else sum(mpp) / 2


def checked_mpp(
    path: str, mpp_um: tuple[float, float] | None, source: str, column: str = "mpp_um"
) -> tuple[float, float] | None:
    """The pixel size (y, x) in um, which the `source` says; UserError where it can't be true."""
    try:
        return check_mpp(path, mpp_um)
    except SlideError:
        said = f"{mpp_um[0]:g}" if source == "table" else str(mpp_um)
        raise UserError(
            f"{path}: a pixel size of {said} in the {source} can't be true: give it in um in "
            f"column {column}"
        ) from None


def _check_size(path: str, window: Region, channels: int, dtype: np.dtype) -> None:
    size = window[2] * window[3] * channels * np.dtype(dtype).itemsize
    if size > IMAGE_BYTES_MAX:
        raise UserError(
            f"{path}: {window[2]} x {window[3]} px are {size >> 20} MB, more than the "
            f"{IMAGE_BYTES_MAX >> 20} MB of a training image: cut regions from it (column region, "
            "or Region* outlines in QuPath)"
        )
