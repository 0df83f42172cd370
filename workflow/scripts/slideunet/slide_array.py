"""A slide as an array: (C, Y, X) at the resolution that it was segmented at, read on demand.

Decoding happens in child processes, as for inference: a decoder that crashes takes none of the
job's work along.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from slideunet.readers.remote import RemoteReader
from slideunet.resample import SlideView
from slideunet.slide_source import CHILD_MB, CHILD_S, SlideSource


class SlideArray:
    """Array-like over a SlideSource: `shape`, `dtype`, and slices with a step of one."""

    def __init__(self, source: SlideSource):
        self.source = source
        self.shape = (len(source.channels), source.height, source.width)
        self.dtype = np.dtype(source.dtype)

    def __getitem__(self, where: tuple[slice, slice, slice]) -> np.ndarray:
        channels, rows, columns = where
        y0, y1, _ = rows.indices(self.shape[1])
        x0, x1, _ = columns.indices(self.shape[2])
        return self.source.read(y0, x0, y1 - y0, x1 - x0)[channels]


def scale_of(slide: dict, segmentation: dict) -> tuple[float, float]:
    """Level-0 pixels per pixel of the segmentation, (y, x), from the two manifests' facts."""
    if slide["mpp_um"] is None or segmentation["pixel_um"] is None:
        return 1.0, 1.0
    sizes = zip(segmentation["pixel_um"], slide["mpp_um"], strict=True)
    y, x = (segmented / source for segmented, source in sizes)
    return y, x


@contextmanager
def open_array(
    slide: dict, scale_yx: tuple[float, float], children: int = 1
) -> Iterator[SlideArray]:
    """The slide of a manifest's facts at `scale_yx`; tiles that do not decode are masked.

    `children`: processes that decode, one for each thread that reads. Raises SlideError as
    open_slide does, MemoryError if the machine ended a child.
    """
    limits = {"mem_mb": CHILD_MB, "seconds": CHILD_S}
    with RemoteReader(slide["path"], workers=children, **limits) as reader:
        reader.mask_bad_tiles = True
        yield SlideArray(SlideSource(SlideView(reader, scale_yx)))
