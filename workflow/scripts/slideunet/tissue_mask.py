"""A tissue mask on a slide's overview, and what can be asked of it.

Apart from how it is found (tissue.py): what segments a slide needs the mask, and not scipy.
"""

from dataclasses import dataclass

import numpy as np


@dataclass
class Tissue:
    """A tissue mask on the overview's grid.

    `mask` and `pen`: bool (Y, X). `scale_yx`: level-0 pixels per pixel of the mask. `source`:
    "bright field", "intensity", "all" or "outlines".
    """

    mask: np.ndarray
    pen: np.ndarray
    scale_yx: tuple[float, float]
    source: str

    def __post_init__(self):
        # Sums over all rectangles from the origin make every question four look-ups.
        self._sums = np.zeros(tuple(n + 1 for n in self.mask.shape), np.int64)
        self._sums[1:, 1:] = self.mask.cumsum(0).cumsum(1)

    def tissue_in(self, y: float, x: float, height: float, width: float) -> bool:
        """Whether a window in level-0 pixels, which must touch the slide, touches tissue."""
        spans = []
        for start, length, scale, size in zip(
            (y, x), (height, width), self.scale_yx, self.mask.shape, strict=True
        ):
            # The last pixel of the mask stands for the fraction of one beyond it, too.
            first = int(np.clip(np.floor(start / scale), 0, size - 1))
            spans.append((first, int(np.clip(np.ceil((start + length) / scale), first + 1, size))))
        (y0, y1), (x0, x1) = spans
        s = self._sums
        return bool(s[y1, x1] - s[y0, x1] - s[y1, x0] + s[y0, x0] > 0)


def is_bright_field(overview: np.ndarray) -> bool:
    """8-bit colour whose brightest tenth is bright: glass, or at least light through tissue."""
    return overview.dtype == np.uint8 and float(np.percentile(overview.mean(axis=0), 90)) > 100
