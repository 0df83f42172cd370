"""Test-time averaging: the mean over quarter turns and mirrorings of what the network sees.

Tiled stays equal to whole: a tile, rounded up to a multiple of 2^depth, is turned together with its
context. Its far edge, which becomes the near edge of the mirrored tile, lies on a multiple of
2^depth too, so all mirrored tiles see one pooling grid: that of the whole image, mirrored at its
own far edge rounded up to the grid. For that the window that is turned must be symmetric around
the tile: outputs are `slack_px` longer than the tile, so that much is added on the near sides, and
after turning the near sides are cropped by it.
"""

from collections.abc import Callable

import torch

from slideunet.geometry import padded_to_grid, slack_px

# Quarter turns, and whether the window is mirrored (left and right swapped) before. The paper
# averaged 7 rotated versions of the input (section 4); a square has 8 views without interpolation.
VIEWS: dict[str, tuple[tuple[int, bool], ...]] = {
    "none": ((0, False),),
    "rotations": tuple((turns, False) for turns in range(4)),
    "all": tuple((turns, mirror) for mirror in (False, True) for turns in range(4)),
}


def is_symmetric(averaging: str) -> bool:
    """Whether `mean_over_views` wants the symmetric window (geometry.input_window)."""
    return len(VIEWS[averaging]) > 1


def mean_over_views(
    predict: Callable[[torch.Tensor], torch.Tensor],
    pixels: torch.Tensor,
    tile_yx: tuple[int, int],
    depth: int,
    averaging: str,
) -> torch.Tensor:
    """Class probabilities (classes, *tile_yx) float32 of a tile, the mean over its views.

    Parameters
    ----------
    predict : (C, Y, X) -> probabilities (classes, Y - lost, X - lost) float32
    pixels : (C, Y, X) the tile's input window, symmetric if `is_symmetric(averaging)`
    """
    height, width = tile_yx
    if not is_symmetric(averaging):
        return predict(pixels)[:, :height, :width]
    slack = slack_px(depth)
    rounded_yx = padded_to_grid(height, depth), padded_to_grid(width, depth)
    total = None
    for turns, mirror in VIEWS[averaging]:
        seen = torch.rot90(pixels.flip(2) if mirror else pixels, turns, dims=(1, 2))
        rows, columns = rounded_yx if turns % 2 == 0 else rounded_yx[::-1]
        found = predict(seen[:, slack:, slack:])[:, :rows, :columns]
        found = torch.rot90(found, -turns, dims=(1, 2))
        found = found.flip(2) if mirror else found
        total = found if total is None else total + found
    return (total / len(VIEWS[averaging]))[:, :height, :width]
