"""Which image a tile is taken from, and where: all pixels of the training set alike.

An image is drawn with a probability proportional to its area, then the tile's place uniformly
over the image. The tile may reach beyond the image: there the image is mirrored, and its target
with it. So each pixel is expected equally often, near a border as in the middle: what a tile near
the border does not reach beyond it, it meets in the mirror. (The outermost rows are not repeated
by the mirror and come half as often.)

The draws of step n are a function of the seed and n alone: a resumed training needs no generator's
state, and the host knows them without waiting for the device.
"""

from typing import NamedTuple

import numpy as np


class Draw(NamedTuple):
    """An image's index, and the tile's centre in its pixels (whole numbers: pixel centres)."""

    image: int
    centre_px: tuple[float, float]


class Sampler:
    """Draws tiles of side `tile_px` from images of the given shapes (height, width).

    The pixels of an undeformed tile lie on the pixels of the image: the centre of a tile of even
    side is half a pixel off a whole number.
    """

    def __init__(self, shapes: list[tuple[int, int]], tile_px: int, seed: int):
        areas = np.array([height * width for height, width in shapes], dtype=np.float64)
        self._until = np.cumsum(areas) / areas.sum()
        self._shapes, self._seed = shapes, seed
        self._offset = 0.5 if tile_px % 2 == 0 else 0.0

    def draw(self, step: int, batch: int) -> list[Draw]:
        """The tiles of one step, counted from 0."""
        draws = []
        for which, *place in np.random.default_rng([self._seed, step, 0]).random((batch, 3)):
            image = int(np.searchsorted(self._until[:-1], which, side="right"))
            y, x = (int(p * n) for p, n in zip(place, self._shapes[image], strict=True))
            draws.append(Draw(image, (y + self._offset, x + self._offset)))
        return draws


def step_seed(seed: int, step: int, purpose: int) -> int:
    """The seed of a step's other random numbers, 63 bits; `purpose` (from 1) tells them apart."""
    state = np.random.SeedSequence([seed, step, purpose]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))
