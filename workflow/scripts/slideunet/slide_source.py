"""The slide as inference reads it: at the models' pixel size, with what could not be decoded.

Decoding happens in child processes: what crashes a decoder costs a tile, not the job, and on a GPU
several of them decode at once.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from slideunet.geometry import Window
from slideunet.readers.base import Level
from slideunet.readers.remote import RemoteReader
from slideunet.resample import SlideView, fit_level, scale_for, view_at

# Limits of a child: memory, the least (`limits_of`); CPU and wall time of a band of pixels, far
# beyond what decoding takes, for a file that never ends and a file system that hangs.
CHILD_MB, CHILD_S = 2000, 600
# A window comes from the child in bands of so many bytes, so that little is held twice.
BAND_BYTES = 16 << 20


class SlideSource:
    """A view of a slide (resample.py) that tells which of its pixels are masked bad tiles.

    `scale_yx`: level-0 pixels per pixel of the view.
    """

    def __init__(self, view: SlideView):
        self.path = view.reader.path
        self.height, self.width = view.height, view.width
        self.dtype, self.channels = view.dtype, view.channels
        self.scale_yx = view.scale_yx
        self._view = view

    def read(self, y: int, x: int, height: int, width: int) -> np.ndarray:
        """Pixels (C, height, width) of a window inside the slide."""
        pixel_bytes = len(self.channels) * self.dtype.itemsize
        rows = max(1, BAND_BYTES // (width * pixel_bytes))
        if rows >= height:
            return self._view.read(y, x, height, width)
        out = np.empty((len(self.channels), height, width), self.dtype)
        for top in range(0, height, rows):
            band = out[:, top : top + rows]
            band[...] = self._view.read(y + top, x, band.shape[1], width)
        return out

    @property
    def bad_reason(self) -> str:
        """What a decoder said of one of the tiles that did not decode; for the log."""
        return self._view.reader.first_bad_reason

    def unreadable(self) -> list[Window]:
        """Windows, in the view's pixels, that a tile which did not decode touches.

        What the calling thread's reads have lost as a whole is told once: asked after each shard.
        """
        view, reader = self._view, self._view.reader
        found = []
        for level, *corner, height, width in sorted(reader.bad_windows_here()):
            if level != view.level:  # met before, at indexing
                continue
            reach = 1 if min(view.ratio_yx) < 1 else 0  # an enlarged view interpolates across
            y, x = (
                max(0, math.floor((c - reach) / r))
                for c, r in zip(corner, view.ratio_yx, strict=True)
            )
            y_end, x_end = (
                min(whole, math.ceil((c + side + reach) / r))
                for c, side, r, whole in zip(
                    corner, (height, width), view.ratio_yx, (self.height, self.width), strict=True
                )
            )
            if y_end > y and x_end > x:
                found.append(Window(y, x, y_end - y, x_end - x))
        return found


def limits_of(facts: dict) -> dict[str, int]:
    """Limits of a process that reads the slide of these facts (load_slide), for RemoteReader.

    Memory is that of indexing where this was given more, so that what was indexed is read. It is
    no setting of what is made of the slide: it decides whether there is a result, not which.
    """
    return {"mem_mb": max(CHILD_MB, facts.get("index_mb", 0)), "seconds": CHILD_S}


@contextmanager
def open_source(
    path: str,
    mpp_um: tuple[float, float] | None,
    model_mpp_um: float | None,
    mask_bad: bool,
    children: int = 1,
    limits: dict | None = None,
) -> Iterator[SlideSource]:
    """The slide at the models' pixel size; `mask_bad`: segment.on_bad_tile is `mask`.

    `mpp_um`: the slide's (y, x), from its manifest; `children`: processes that decode; `limits`: of
    `limits_of`. Raises SlideError as open_slide and view_at do.
    """
    with RemoteReader(path, workers=children, **(limits or limits_of({}))) as reader:
        reader.mask_bad_tiles = mask_bad
        yield SlideSource(view_at(reader, mpp_um, model_mpp_um))


def scale_of_facts(facts: dict, model_mpp_um: float | None) -> tuple[float, float]:
    """`SlideSource.scale_yx` from a slide's manifest alone. Raises SlideError as scale_for does."""
    mpp_um = None if facts["mpp_um"] is None else tuple(facts["mpp_um"])
    scale_yx = scale_for(facts["path"], mpp_um, model_mpp_um)
    return fit_level([Level(**level) for level in facts["levels"]], scale_yx)[2]
