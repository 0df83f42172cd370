"""A slide at another pixel size, computed as it is read, on one global grid.

Pixel i of the view covers [i s, (i + 1) s) of level 0, s being the scale, whatever window asks for
it: so any window equals the crop of the whole, bit for bit. The source is the nearest finer level.
Shrinking averages the area that a pixel covers (fractions of source pixels weighted by their
share), which also is the anti-alias filter; enlarging interpolates linearly. Float32 arithmetic
(float64 for 32-bit and wider integers), element by element in a fixed order; whole numbers are
rounded half to even.
"""

import math

import numpy as np

from slideunet.errors import SlideError
from slideunet.readers.base import Level, SlideReader

# Pixel sizes this close count as equal: a scanner's 0.4990 or 0.5034 is "20x". A network does not
# notice 2 %, a resampling blurs everything.
SAME_SIZE = 0.02
# Source pixels held at once while a window is computed: 16 M RGB bytes, 64 MB as float32.
_BAND_BYTES = 16 << 20


class SlideView:
    """A reader seen at `scale_yx` level-0 pixels per pixel.

    `height`, `width` of the view; `scale_yx` as it is (of the level itself where it is taken as
    it is); `level` and `ratio_yx` (pixels of that level per pixel of the view); `dtype` and
    `channels` are the reader's.
    """

    def __init__(self, reader: SlideReader, scale_yx: tuple[float, float]):
        if not all(math.isfinite(s) and s > 0 for s in scale_yx):
            raise ValueError(f"scale {scale_yx}: must be above 0")
        self.reader = reader
        self.dtype, self.channels = reader.dtype, reader.channels
        self.level, self.ratio_yx, self.scale_yx = fit_level(reader.levels, scale_yx)
        self.identity = self.ratio_yx == (1.0, 1.0)
        source = reader.levels[self.level]
        self.height = _length(source.height, self.ratio_yx[0])
        self.width = _length(source.width, self.ratio_yx[1])

    def read(self, y: int, x: int, height: int, width: int) -> np.ndarray:
        """One window, (C, height, width) of `dtype`; it must lie inside the view."""
        inside = min(y, x) >= 0 and y + height <= self.height and x + width <= self.width
        if height < 1 or width < 1 or not inside:
            raise ValueError(
                f"window y={y} x={x} {height} x {width} leaves the view "
                f"({self.height} x {self.width})"
            )
        if self.identity:
            return self.reader.read(self.level, y, x, height, width)
        source = self.reader.levels[self.level]
        columns = _taps(x, width, self.ratio_yx[1], source.width)
        out = np.empty((len(self.channels), height, width), self.dtype)
        row_bytes = (
            len(self.channels) * self.dtype.itemsize * (columns[0].max() - columns[0].min() + 1)
        )
        rows = max(1, int(_BAND_BYTES / row_bytes / max(self.ratio_yx[0], 1)))
        for top in range(0, height, rows):
            band = out[:, top : top + rows]
            self._band(band, y + top, columns, source.height)
        return out

    def _band(self, out: np.ndarray, y: int, columns: tuple, source_height: int) -> None:
        lines = _taps(y, out.shape[1], self.ratio_yx[0], source_height)
        y0, y1 = int(lines[0].min()), int(lines[0].max()) + 1
        x0, x1 = int(columns[0].min()), int(columns[0].max()) + 1
        pixels = self.reader.read(self.level, y0, x0, y1 - y0, x1 - x0)
        wide = pixels.dtype.kind in "iu" and pixels.dtype.itemsize > 2
        work = np.float64 if wide or pixels.dtype == np.float64 else np.float32
        half = _weigh(pixels, lines[0] - y0, lines[1].astype(work), 1)
        full = _weigh(half, columns[0] - x0, columns[1].astype(work), 2)
        out[...] = np.rint(full) if out.dtype.kind in "iu" else full


def fit_level(
    levels: list[Level], scale_yx: tuple[float, float]
) -> tuple[int, tuple[float, float], tuple[float, float]]:
    """Where a view at `scale_yx` level-0 pixels per pixel comes from: the coarsest level that is
    fine enough, pixels of that level per pixel of the view, and the scale as it then is (that of
    the level itself where it is taken as it is).
    """
    finer = [
        index
        for index, level in enumerate(levels)
        if level.downsample <= min(scale_yx) * (1 + SAME_SIZE)
    ]
    chosen = finer[-1] if finer else 0
    downsample = levels[chosen].downsample
    ratio = tuple(s / downsample for s in scale_yx)
    if all(abs(r - 1) <= SAME_SIZE for r in ratio):
        ratio = (1.0, 1.0)
    return chosen, ratio, tuple(r * downsample for r in ratio)


def scale_for(
    path: str, mpp_um: tuple[float, float] | None, target_mpp_um: float | None
) -> tuple[float, float]:
    """Level-0 pixels (y, x) of the slide `path` per pixel of a model of `target_mpp_um`.

    `mpp_um`: the slide's (y, x), from its manifest. A model whose pixel size is unknown (None)
    sees the slide unscaled. Raises SlideError where the model has a pixel size and the slide none.
    """
    if target_mpp_um is None:
        return (1.0, 1.0)
    if mpp_um is None:
        raise SlideError(
            f"{path}: has no pixel size, and the model was trained at {target_mpp_um:g} um; "
            "give it in the table of slides (column mpp_um)"
        )
    return (target_mpp_um / mpp_um[0], target_mpp_um / mpp_um[1])


def view_at(
    reader: SlideReader,
    mpp_um: tuple[float, float] | None,
    target_mpp_um: float | None,
) -> SlideView:
    """The slide at a model's pixel size; the arguments and errors are those of `scale_for`."""
    return SlideView(reader, scale_for(reader.path, mpp_um, target_mpp_um))


def _length(source: int, ratio: float) -> int:
    """Pixels of the view along an axis: the last one is covered by at least half."""
    return max(1, math.ceil(source / ratio - 0.5))


def _taps(start: int, count: int, ratio: float, source: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and weights (count, taps) of the source pixels of outputs start, start + 1, ...

    They depend on the output's index in the view alone.
    """
    index = np.arange(start, start + count, dtype=np.float64)
    if ratio > 1:
        low, high = index * ratio, np.minimum((index + 1) * ratio, source)
        first = np.floor(low)
        # An interval of `ratio` touches so many pixels, at most; whole ratios begin on a pixel.
        offsets = np.arange(int(ratio) if ratio == int(ratio) else math.floor(ratio) + 2)
        left = np.maximum(low[:, None], first[:, None] + offsets)
        right = np.minimum(high[:, None], first[:, None] + offsets + 1)
        weights = np.maximum(right - left, 0)
    else:
        centre = (index + 0.5) * ratio - 0.5
        first, offsets = np.floor(centre), np.arange(2)
        share = (centre - first)[:, None]
        weights = np.concatenate([1 - share, share], axis=1)
    taps = np.clip(first[:, None] + offsets, 0, source - 1).astype(np.intp)
    return taps, weights / weights.sum(axis=1, keepdims=True)


def _weigh(pixels: np.ndarray, taps: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """Weighted sum over the taps along one axis: one tap after the other, so in one order."""
    shape = [1, 1, 1]
    shape[axis] = len(taps)
    total = None
    for k in range(taps.shape[1]):
        weight = weights[:, k].reshape(shape)
        with np.errstate(invalid="ignore"):
            part = np.take(pixels, taps[:, k], axis=axis) * weight
        if pixels.dtype.kind == "f":  # 0 times infinity would leak from beyond the pixel
            part = np.where(weight == 0, weight.dtype.type(0), part)
        total = part if total is None else np.add(total, part, out=total)
    return total
