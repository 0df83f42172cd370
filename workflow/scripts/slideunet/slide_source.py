"""The slide as inference reads it: at the models' pixel size, with what could not be decoded."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from slideunet.geometry import Window
from slideunet.readers.open import open_slide
from slideunet.resample import SlideView, view_at


class SlideSource:
    """A view of a slide (resample.py) that tells which of its pixels are masked bad tiles.

    `scale_yx`: level-0 pixels per pixel of the view.
    """

    def __init__(self, view: SlideView):
        self.path = view.reader.path
        self.height, self.width = view.height, view.width
        self.dtype, self.channels = view.dtype, view.channels
        self.scale_yx = view.scale_yx
        self.read = view.read
        self._view = view

    def unreadable(self) -> list[Window]:
        """Windows, in the view's pixels, that a tile which did not decode touches."""
        view, reader = self._view, self._view.reader
        found = []
        # Copied in one step: other threads may be adding to it.
        for level, *corner, height, width in sorted(reader.bad_windows.copy()):
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


@contextmanager
def open_source(
    path: str, mpp_um: tuple[float, float] | None, model_mpp_um: float | None, mask_bad: bool
) -> Iterator[SlideSource]:
    """The slide at the models' pixel size; `mask_bad`: segment.on_bad_tile is `mask`.

    `mpp_um`: the slide's (y, x), from its manifest. Raises SlideError as open_slide and view_at do.
    """
    with open_slide(path) as reader:
        reader.mask_bad_tiles = mask_bad
        yield SlideSource(view_at(reader, mpp_um, model_mpp_um))
