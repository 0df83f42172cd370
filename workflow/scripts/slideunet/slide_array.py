"""A slide as an array: (C, Y, X) at the resolution that it was segmented at, read on demand.

Decoding happens in child processes, as for inference: a decoder that crashes takes none of the
job's work along. What was segmented must be read again, or there is no answer; the rest (glass, and
what segmentation masked) may be unreadable.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from slideunet.errors import SlideError
from slideunet.geometry import Window, intersection
from slideunet.readers.remote import RemoteReader
from slideunet.resample import SlideView
from slideunet.slide_source import SlideSource, limits_of

log = logging.getLogger("unet-slides")


class SlideArray:
    """Array-like over a SlideSource: `shape`, `dtype`, and slices with a step of one.

    probabilities : array-like (C, Y, X) of the slide's segmentation, 0 where nothing was computed
    masked : whether segmentation has masked pixels of this slide

    Slices raise SlideError where pixels that were segmented do not decode. Where `masked` the log
    tells of them instead: a window whose decoder dies is lost as a whole, and segmentation read the
    bad place by other windows.
    """

    def __init__(self, source: SlideSource, probabilities, masked: bool):
        self.source = source
        self.shape = (len(source.channels), source.height, source.width)
        self.dtype = np.dtype(source.dtype)
        self._probabilities, self._masked = probabilities, masked

    def __getitem__(self, where: tuple[slice, slice, slice]) -> np.ndarray:
        channels, rows, columns = where
        y0, y1, _ = rows.indices(self.shape[1])
        x0, x1, _ = columns.indices(self.shape[2])
        pixels = self.source.read(y0, x0, y1 - y0, x1 - x0)
        self._check(Window(y0, x0, y1 - y0, x1 - x0))
        return pixels[channels]

    def _check(self, window: Window) -> None:
        """Whether what the calling thread has just read is whole wherever there is a result."""
        for bad in self.source.unreadable():
            part = intersection(bad, window)
            if part is None or not np.any(self._probabilities[(slice(None), *part.slices())]):
                continue
            place = (
                f"the {part.height} x {part.width} px at y={part.y} x={part.x}, which were "
                f"segmented, do not decode: {self.source.bad_reason}"
            )
            if not self._masked:
                # the same words whichever thread comes first: the place is a note
                error = SlideError(
                    f"{self.source.path}: pixels that were segmented do not decode any more; the "
                    "log tells where"
                )
                error.add_note(place)
                raise error
            log.warning("%s: %s: they are masked", self.source.path, place)


def scale_of(slide: dict, segmentation: dict) -> tuple[float, float]:
    """Level-0 pixels per pixel of the segmentation, (y, x), from the two manifests' facts."""
    if slide["mpp_um"] is None or segmentation["pixel_um"] is None:
        return 1.0, 1.0
    sizes = zip(segmentation["pixel_um"], slide["mpp_um"], strict=True)
    y, x = (segmented / source for segmented, source in sizes)
    return y, x


@contextmanager
def open_array(
    slide: dict, segmented: dict, probabilities, children: int = 1
) -> Iterator[SlideArray]:
    """The slide of a manifest's facts (load_slide) as it was segmented.

    segmented : facts of the segmentation's manifest; probabilities : see SlideArray
    children : processes that decode, one for each thread that reads

    Raises SlideError as open_slide does, MemoryError if the machine ended a child.
    """
    with RemoteReader(slide["path"], workers=children, **limits_of(slide)) as reader:
        reader.mask_bad_tiles = True  # judged once it is known what lies there
        source = SlideSource(SlideView(reader, scale_of(slide, segmented)))
        yield SlideArray(source, probabilities, segmented["masked_px"] > 0)
