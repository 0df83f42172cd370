"""Polygons on the pixel grid: which pixels an outline holds, exactly and for any crop alike.

Coordinates are (y, x) in level-0 pixels; pixel (i, j) covers [i, i+1) x [j, j+1), as in QuPath and
ImageScope, and is inside where its centre (i + 0.5, j + 0.5) is. A centre on an edge belongs to the
side below or to the right, so that outlines which share an edge neither overlap nor leave a gap.
`skimage.draw.polygon` counts such centres for both, and tests each pixel against each vertex:
minutes for a region drawn by hand around a tissue, where these sweeps take milliseconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from slideunet.errors import UserError

# No scanner makes a slide of a billion pixels a side: such a coordinate is a damaged file.
COORDINATE_MAX_PX = 1e9
# Rows crossed by all edges of one ring; 2^26 take 4 GB. Whoever draws does not come near it.
CROSSINGS_MAX = 2**26

Part = tuple[np.ndarray, ...]  # rings (n, 2) float64 y, x: the outer one, then its holes


@dataclass(frozen=True)
class Outline:
    """One annotated object or region: its parts, and the name of its class as the file says it.

    `name` is "" where the file names no class; `number` is its place in the file, from 1; `kind`
    what the program calls such an object; `negative` says that it takes away (a negative pen).
    """

    name: str
    parts: tuple[Part, ...]
    number: int = 0
    kind: str = ""
    negative: bool = False

    @property
    def area_px(self) -> float:
        """Area within the outer rings less that of the holes, px (shoelace formula)."""
        signs = (1 if index == 0 else -1 for part in self.parts for index in range(len(part)))
        rings = (ring for part in self.parts for ring in part)
        return sum(sign * ring_area_px(ring) for sign, ring in zip(signs, rings, strict=True))


def ring_area_px(ring: np.ndarray) -> float:
    """Area of a closed ring (n, 2), px; whichever way it winds."""
    y, x = (ring - ring[0]).T  # near the origin the products keep their digits
    return abs(float(np.dot(y, np.roll(x, -1)) - np.dot(x, np.roll(y, -1)))) / 2


def moved(
    outlines: Iterable[Outline],
    offset_yx: tuple[float, float] | np.ndarray = (0, 0),
    factor: float | np.ndarray = 1,
) -> list[Outline]:
    """The outlines with coordinates (y, x) * factor + offset; a factor for both axes, or (y, x)."""
    offset = np.asarray(offset_yx, dtype=np.float64)
    return [
        replace(
            outline,
            parts=tuple(tuple(ring * factor + offset for ring in part) for part in outline.parts),
        )
        for outline in outlines
    ]


def paint(
    outlines: list[Outline],
    values: list[int],
    canvas: np.ndarray,
    origin_yx: tuple[int, int] = (0, 0),
) -> None:
    """Write each outline's value into its pixels of `canvas` (Y, X), in place.

    `origin_yx` is the canvas's first pixel in the outlines' coordinates. Where outlines overlap the
    smaller one lies on top (of two equal ones the later): a nucleus drawn within a region stays,
    whatever the order of the file.
    """
    order = sorted(range(len(outlines)), key=lambda index: -outlines[index].area_px)
    for index in order:
        for part in outlines[index].parts:
            window = _window(part[0], origin_yx, canvas.shape)
            if window is None:
                continue
            held = inside(part[0], *window)
            for hole in part[1:]:
                held &= ~inside(hole, *window)
            y, x, height, width = window
            y, x = y - origin_yx[0], x - origin_yx[1]
            canvas[y : y + height, x : x + width][held] = values[index]


def mask(
    outlines: list[Outline], shape_yx: tuple[int, int], origin_yx: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """Bool (Y, X): whether a pixel lies in any of the outlines."""
    canvas = np.zeros(shape_yx, dtype=bool)
    paint(outlines, [1] * len(outlines), canvas, origin_yx)
    return canvas


def inside(ring: np.ndarray, y: int, x: int, height: int, width: int) -> np.ndarray:
    """Bool (height, width): pixels of the window at (y, x) whose centres the ring encloses.

    Non-zero winding: where a line drawn by hand crosses itself on closing, the twice enclosed part
    is inside. Each edge is followed downwards whichever way the ring runs, so that two rings get
    the same crossings from an edge they share.
    """
    begin, end = ring, np.roll(ring, -1, axis=0)
    down = begin[:, 0] <= end[:, 0]
    top, bottom = np.where(down[:, None], begin, end), np.where(down[:, None], end, begin)
    first = np.clip(np.ceil(top[:, 0] - 0.5) - y, 0, height).astype(np.int64)
    last = np.clip(np.ceil(bottom[:, 0] - 0.5) - y, 0, height).astype(np.int64)
    rows = last - first  # how many rows' centre lines each edge crosses
    if rows.sum() > CROSSINGS_MAX:
        raise UserError(f"an outline of {len(ring)} points zigzags {rows.sum()} times: redraw it")
    edge = np.repeat(np.arange(len(ring)), rows)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(rows) - rows - first, rows)
    rise = np.maximum(bottom[:, 0] - top[:, 0], np.finfo(float).tiny)  # 0 only where rows is 0
    share = (row + y + 0.5 - top[edge, 0]) / rise[edge]
    crossing = top[edge, 1] + share * (bottom[edge, 1] - top[edge, 1])
    column = np.clip(np.ceil(crossing - 0.5) - x, 0, width).astype(np.int64)
    winding = np.zeros((height, width + 1), dtype=np.int32)
    np.add.at(winding, (row, column), np.where(down, 1, -1)[edge])
    return np.cumsum(winding[:, :width], axis=1) != 0


def _window(
    ring: np.ndarray, origin_yx: tuple[int, int], shape_yx: tuple[int, ...]
) -> tuple[int, int, int, int] | None:
    """(y, x, height, width) of the ring's bounding box within the canvas, None if outside it."""
    low = np.maximum(np.floor(ring.min(axis=0)), origin_yx).astype(np.int64)
    high = np.minimum(np.ceil(ring.max(axis=0)), np.add(origin_yx, shape_yx)).astype(np.int64)
    if (low >= high).any():
        return None
    return int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])
