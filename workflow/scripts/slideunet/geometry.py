"""Tile arithmetic of the U-Net: admitted sizes, halos, tile and shard grids.

Integers only, no numpy, no torch: the Snakefile side imports this file to check a configuration.

All formulas follow from the paper's architecture (Ronneberger et al. 2015, figure 1): at each of
`depth` steps two unpadded 3x3 convolutions (-4 px) and a 2x2 max pooling (/2), then two more
convolutions at the bottom, then `depth` times a 2x2 up-convolution (x2) and two convolutions.
The paper's network has depth 4: 572 px in, 388 px out.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple


class Window(NamedTuple):
    """A rectangle in pixels: first row, first column, height, width."""

    y: int
    x: int
    height: int
    width: int

    @property
    def y_end(self) -> int:
        """The row after the last one."""
        return self.y + self.height

    @property
    def x_end(self) -> int:
        """The column after the last one."""
        return self.x + self.width

    def slices(self, origin: tuple[int, int] = (0, 0)) -> tuple[slice, slice]:
        """Rows and columns of an array whose first pixel lies at `origin` (y, x)."""
        y, x = origin
        return slice(self.y - y, self.y_end - y), slice(self.x - x, self.x_end - x)


def grid_px(depth: int) -> int:
    """The pooling grid: tiles whose origins differ by a multiple of it see the same pooling."""
    return 2**depth


def is_admitted(input_px: int, depth: int) -> bool:
    """Whether a tile of this input size halves evenly at each pooling and leaves an output.

    The admitted sizes are 2^d k + 4 (2^d - 1) with an output of at least one pixel.
    """
    grid = grid_px(depth)
    return (input_px - 4 * (grid - 1)) % grid == 0 and input_px - lost_px(depth) > 0


def lost_px(depth: int) -> int:
    """Pixels that the unpadded convolutions take off a tile's side: 12 * 2^d - 8 (paper: 184)."""
    return 12 * grid_px(depth) - 8


def context_px(depth: int) -> int:
    """Context on each side of an output: half of `lost_px` (paper: 92)."""
    return lost_px(depth) // 2


def output_px(input_px: int, depth: int) -> int:
    """Side of the output tile of an input tile of side `input_px` (paper: 572 -> 388).

    Raises ValueError, naming the nearest admitted sizes, where the depth does not admit the size.
    """
    if not is_admitted(input_px, depth):
        below, above = nearest_admitted(input_px, depth)
        raise ValueError(
            f"an input tile of {input_px} px does not fit a network of depth {depth}: "
            f"take {below} or {above} px"
        )
    return input_px - lost_px(depth)


def nearest_admitted(input_px: int, depth: int) -> tuple[int, int]:
    """The admitted input sizes just below and just above (both the smallest one if need be)."""
    grid = grid_px(depth)
    offset = 4 * (grid - 1)
    smallest = offset + grid * ((lost_px(depth) - offset) // grid + 1)
    steps = (input_px - smallest) // grid
    below = max(smallest, smallest + grid * steps)
    above = below if below >= input_px else below + grid
    return below, above


def input_px_for(tile_px: int, depth: int) -> int:
    """Smallest admitted input side whose output covers `tile_px` (384 -> 572 at depth 4)."""
    return nearest_admitted(tile_px + lost_px(depth), depth)[1]


def check_tile_px(tile_px: int, depth: int) -> None:
    """Raise ValueError unless `tile_px` (an inference step) lies on the pooling grid."""
    grid = grid_px(depth)
    if tile_px < grid or tile_px % grid:
        below = max(grid, tile_px // grid * grid)
        raise ValueError(
            f"a tile step of {tile_px} px is no multiple of 2^depth = {grid}: "
            f"take {below} or {below + grid} px"
        )


def tiles(region: Window, tile_px: int, depth: int) -> Iterator[Window]:
    """Tile the region, row by row; each pixel of it lies in exactly one tile.

    Tiles have side `tile_px`; those at the far edges are trimmed to the region, so a tile's extent
    depends on the region's and the step alone. The region's origin and the step must lie on the
    pooling grid of the whole image: then tiled and whole inference are the same sums. (Other
    origins change the pooling and with it a few labels in a thousand, see docs.)
    """
    check_tile_px(tile_px, depth)
    grid = grid_px(depth)
    if region.y % grid or region.x % grid:
        raise ValueError(f"region origin ({region.y}, {region.x}) is off the grid of {grid} px")
    yield from blocks(region, tile_px)


def blocks(region: Window, block_px: int) -> Iterator[Window]:
    """Cut the region into squares of `block_px`, row by row, trimmed at the far edges."""
    for y in range(region.y, region.y + region.height, block_px):
        for x in range(region.x, region.x + region.width, block_px):
            yield Window(
                y,
                x,
                min(block_px, region.y + region.height - y),
                min(block_px, region.x + region.width - x),
            )


def padded_to_grid(length: int, depth: int) -> int:
    """`length` rounded up to the pooling grid: the output side computed for a trimmed tile."""
    grid = grid_px(depth)
    return -(-length // grid) * grid


def slack_px(depth: int) -> int:
    """How much longer an output is than the multiple of 2^depth it was asked for: 0 or 4 px.

    An output side is 4 (mod 2^depth) from depth 3 on (572 -> 388 = 384 + 4), a multiple before.
    """
    grid = grid_px(depth)
    return output_px(input_px_for(grid, depth), depth) - grid


def input_window(tile: Window, depth: int, symmetric: bool = False) -> Window:
    """The window that a tile's input covers: the tile, rounded up to the grid, plus its context.

    The output is `slack_px` longer than the rounded tile; the caller crops. `symmetric` adds the
    slack on the near sides too, so that the window turned or mirrored is the window of the turned
    or mirrored tile.
    """
    before = context_px(depth) + (slack_px(depth) if symmetric else 0)
    more = context_px(depth) + slack_px(depth) + before
    return Window(
        tile.y - before,
        tile.x - before,
        padded_to_grid(tile.height, depth) + more,
        padded_to_grid(tile.width, depth) + more,
    )


def intersection(a: Window, b: Window) -> Window | None:
    """The pixels that two windows share, None where there are none."""
    y, x = max(a.y, b.y), max(a.x, b.x)
    height, width = min(a.y_end, b.y_end) - y, min(a.x_end, b.x_end) - x
    return Window(y, x, height, width) if height > 0 and width > 0 else None


def bounding(windows: Iterable[Window]) -> Window:
    """The smallest window around all. Raises ValueError where there are none."""
    windows = list(windows)
    y, x = min(w.y for w in windows), min(w.x for w in windows)
    return Window(y, x, max(w.y_end for w in windows) - y, max(w.x_end for w in windows) - x)


def cover(windows: Iterable[Window]) -> list[Window]:
    """Disjoint windows with exactly the pixels of the union of the given ones.

    The plane is cut at all edges of the windows; wanted cells are joined to runs along x, and
    equal runs of rows that follow each other to one window. One window stays one.
    """
    windows = list(windows)
    rows = sorted({edge for w in windows for edge in (w.y, w.y_end)})
    open_runs: dict[tuple[int, int], int] = {}  # columns -> first row of a window not yet closed
    found = []
    for y, y_end in pairwise(rows):
        runs = _runs(w for w in windows if w.y <= y and w.y_end >= y_end)
        for x, x_end in [run for run in open_runs if run not in runs]:
            top = open_runs.pop((x, x_end))
            found.append(Window(top, x, y - top, x_end - x))
        for run in runs:
            open_runs.setdefault(run, y)
    found += [Window(top, x, rows[-1] - top, end - x) for (x, end), top in open_runs.items()]
    return sorted(found)


def _runs(windows: Iterable[Window]) -> list[tuple[int, int]]:
    """The union of the windows' columns as sorted (first, after last) without overlap or touch."""
    runs: list[tuple[int, int]] = []
    for x, x_end in sorted((w.x, w.x_end) for w in windows):
        if runs and x <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(runs[-1][1], x_end))
        else:
            runs.append((x, x_end))
    return runs


def level_shapes(height: int, width: int, smallest_px: int) -> list[tuple[int, int]]:
    """Shapes of a pyramid: halved (rounded up) until the longer side is at most `smallest_px`."""
    shapes = [(height, width)]
    while max(shapes[-1]) > smallest_px:
        shapes.append((-(-shapes[-1][0] // 2), -(-shapes[-1][1] // 2)))
    return shapes
