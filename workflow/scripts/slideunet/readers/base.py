"""What every reader of slides answers: level shapes, pixel size, channels, and windows as arrays.

A reader never copies a slide: `read` decodes only the tiles that a window touches. All arrays are
(C, Y, X): colour slides have the channels red, green, blue; alpha is dropped, "min is white" is
inverted, palettes are expanded. One open reader may be read from several threads at once.
"""

import errno
import math
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from slideunet.errors import SlideError

# Pixel sizes outside this are mistakes of a file, not of an optic: a 100x objective with
# a small camera pixel gives 0.03 um, an electron microscope down to about 1 nm.
MPP_MIN_UM, MPP_MAX_UM = 0.0005, 10.0
MPP_ANISOTROPY = 0.01
# Levels are rounded to whole pixels by their makers, each in its own way: two pixels and half a
# percent on either axis is rounding, more is another picture.
ASPECT_SLACK_PX, ASPECT_SLACK = 2.0, 0.005


# What the system answers to positions and sizes that only a damaged file can ask for.
_NONSENSE = {None, errno.EINVAL, errno.EOVERFLOW, errno.EFBIG}


def machine_failed(error: BaseException) -> bool:
    """Whether an error is the machine's (memory, disk, network) and no verdict on the slide."""
    if isinstance(error, OSError):
        return error.errno not in _NONSENSE
    return isinstance(error, MemoryError)


@dataclass(frozen=True)
class Level:
    """One resolution of a slide; `downsample` is level-0 pixels per pixel of this level."""

    height: int
    width: int
    downsample: float


class BadTileError(SlideError):
    """A tile that does not decode. `window` is (level, y, x, height, width) in that level's px."""

    def __init__(self, message: str, window: tuple[int, int, int, int, int]):
        super().__init__(message)
        self.window = window


class SlideReader(ABC):
    """Base of all readers: a subclass fills the fields and implements `_read` and `_close`.

    Fields: `path` (as given), `name` (of the reader), `levels` (largest first), `dtype` (numpy),
    `channels` (names), `mpp_um` ((y, x) or None where the file does not say), `bounds`
    ((y, x, height, width) of the scanned area in level-0 px, or None), `objective_power` (or
    None), `tile_px` ((height, width) of what is decoded at once) and `codec` (its name).

    `mask_bad_tiles`: False raises BadTileError for a tile that does not decode; True fills it with
    `fill` and notes its window in `bad_windows`.
    """

    name = "?"
    format = "?"

    def __init__(self, path: str):
        self.path = str(path)
        self.levels: list[Level] = []
        self.dtype = np.dtype("uint8")
        self.channels: list[str] = []
        self.mpp_um: tuple[float, float] | None = None
        self.bounds: tuple[int, int, int, int] | None = None
        self.objective_power: float | None = None
        self.tile_px: tuple[int, int] = (0, 0)
        self.codec = "?"
        self.fill = 0
        self.mask_bad_tiles = False
        self.bad_windows: set[tuple[int, int, int, int, int]] = set()
        self.first_bad_reason = ""
        self._bad_lock = threading.Lock()

    @property
    def is_colour(self) -> bool:
        """Whether the channels are one picture in red, green and blue."""
        return self.channels == ["red", "green", "blue"]

    def read(self, level: int, y: int, x: int, height: int, width: int) -> np.ndarray:
        """One window, (C, height, width) of `dtype`, in pixels of `level`.

        Raises ValueError for a window that is empty or leaves the level (a programmer's mistake)
        and BadTileError for a tile that does not decode.
        """
        if not 0 <= level < len(self.levels):
            raise ValueError(f"{self.path}: no level {level}, there are {len(self.levels)}")
        shape = self.levels[level]
        inside = min(y, x) >= 0 and y + height <= shape.height and x + width <= shape.width
        if height < 1 or width < 1 or not inside:
            raise ValueError(
                f"{self.path}: window y={y} x={x} {height} x {width} leaves level {level} "
                f"({shape.height} x {shape.width})"
            )
        return self._read(level, y, x, height, width)

    def bad_tile(self, reason: object, window: tuple[int, int, int, int, int]) -> None:
        """Note a tile that does not decode: raises BadTileError unless they are to be masked."""
        level, y, x = window[:3]
        if not self.mask_bad_tiles:
            raise BadTileError(
                f"{self.path}: the tile at y={y} x={x} of level {level} does not decode: {reason}",
                window,
            )
        with self._bad_lock:
            self.bad_windows.add(window)
            self.first_bad_reason = self.first_bad_reason or str(reason)

    def bad_windows_here(self) -> set[tuple[int, int, int, int, int]]:
        """Of `bad_windows` those that concern the reads of the calling thread."""
        with self._bad_lock:
            return self.bad_windows.copy()

    def close(self) -> None:
        """Give the file back. Reading afterwards fails."""
        self._close()

    def __enter__(self) -> "SlideReader":
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    @abstractmethod
    def _read(self, level: int, y: int, x: int, height: int, width: int) -> np.ndarray:
        """The window (C, height, width) of a level, which lies within it."""

    @abstractmethod
    def _close(self) -> None:
        """Give the file back."""


def aspect_fits(largest: tuple[int, int], shape: tuple[int, int]) -> bool:
    """Whether a (height, width) can be a reduction of another, up to rounding."""
    slack = sum(ASPECT_SLACK_PX / n + ASPECT_SLACK for n in shape)
    return abs(largest[0] / shape[0] / (largest[1] / shape[1]) - 1) <= slack


def levels_of(path: str, shapes: list[tuple[int, int]]) -> list[Level]:
    """Levels from (height, width) pairs, largest first, with their downsample factors.

    Where a whole number explains both sides to within a pixel it is taken as the factor (a level
    of 2500 px made from 10001 px is a reduction by 4, not by 4.0004), else the mean ratio.
    Raises SlideError for an empty level, levels that do not shrink, and another aspect ratio.
    """
    if not shapes:
        raise SlideError(f"{path}: holds no image")
    (height0, width0) = shapes[0]
    levels = []
    for index, (height, width) in enumerate(shapes):
        if height < 1 or width < 1:
            raise SlideError(f"{path}: level {index} is {height} x {width} pixels: nothing in it")
        if not aspect_fits((height0, width0), (height, width)):
            raise SlideError(
                f"{path}: level {index} ({height} x {width}) has another aspect ratio than "
                f"level 0 ({height0} x {width0}): not one pyramid"
            )
        mean = (height0 / height + width0 / width) / 2
        whole = round(mean)
        fits = abs(height0 / whole - height) < 1 and abs(width0 / whole - width) < 1
        downsample = float(whole) if fits else mean
        if index and downsample <= levels[-1].downsample:
            raise SlideError(f"{path}: level {index} is not smaller than the level before it")
        levels.append(Level(height, width, downsample))
    return levels


def check_mpp(path: str, mpp_um: tuple[float, float] | None) -> tuple[float, float] | None:
    """The pixel size (y, x) in um as given, if it can be true; raises SlideError if it can't."""
    if mpp_um is None:
        return None
    for value in mpp_um:
        if not (math.isfinite(value) and MPP_MIN_UM <= value <= MPP_MAX_UM):
            raise SlideError(
                f"{path}: its pixel size {mpp_um[0]:g} x {mpp_um[1]:g} um (y, x) can't be true; "
                "give the right one in the table of slides (column mpp_um)"
            )
    if abs(mpp_um[0] / mpp_um[1] - 1) > MPP_ANISOTROPY:
        raise SlideError(
            f"{path}: its pixels are {mpp_um[0]:g} um high and {mpp_um[1]:g} um wide, more than "
            "1 % apart; give the right size in the table of slides (column mpp_um)"
        )
    return mpp_um
