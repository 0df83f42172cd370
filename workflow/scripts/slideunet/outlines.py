"""Outlines of labelled objects along their pixels' edges, traced from the sides found in blocks.

A side is a straight run of pixel edges with the object on its right (as seen on a screen, y down):
east along upper edges, south along right ones, west along lower ones, north along left ones. In
(x, y) read as mathematics does, outer rings so run counter-clockwise and holes clockwise, as
RFC 7946 (3.1.6) wants them. Where an object touches itself at a corner its rings are parted there,
so that every ring is simple and every polygon valid (OGC Simple Features).
"""

from dataclasses import dataclass

import numpy as np

from slideunet.errors import SlideError

EAST, SOUTH, WEST, NORTH = range(4)
STEP_Y = np.array([0, 1, 0, -1])
STEP_X = np.array([1, 0, -1, 0])


@dataclass
class Sides:
    """Straight sides; `y`, `x`: the corner where one starts, in pixel edges of the slide."""

    id: np.ndarray
    heading: np.ndarray
    y: np.ndarray
    x: np.ndarray
    length: np.ndarray

    def __len__(self) -> int:
        return len(self.id)

    def choose(self, rows: np.ndarray) -> "Sides":
        return Sides(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def join_sides(parts: list[Sides]) -> Sides:
    """All sides of `parts` (at least one), one after the other."""
    names = Sides.__dataclass_fields__
    return Sides(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def find_sides(window: np.ndarray, y0: int, x0: int) -> Sides:
    """Sides of all objects in a block; `window`: its labels with one pixel around.

    `y0`, `x0`: the slide's coordinates of the block's first pixel. Sides end at the block's edge.
    """
    turned = np.ascontiguousarray(window.T)
    parts = []
    for heading in (EAST, SOUTH, WEST, NORTH):
        along_y = heading in (SOUTH, NORTH)
        far = heading in (SOUTH, WEST)
        line, first, last, ids = _runs(turned if along_y else window, 2 if far else 0)
        # The far edge of a pixel is one further: for lower and right sides, and at a run's end.
        line = line + far
        start = first if heading in (EAST, SOUTH) else last + 1
        y, x = (start, line) if along_y else (line, start)
        headings = np.full(len(ids), heading, np.int8)
        parts.append(Sides(ids, headings, y + y0, x + x0, last - first + 1))
    return join_sides(parts)


def _runs(window: np.ndarray, neighbour: int) -> tuple[np.ndarray, ...]:
    """Line, first and last position and id of each run of pixels unlike those one line off.

    `neighbour`: 0 for the line before, 2 for the line after.
    """
    own = window[1:-1, 1:-1]
    columns = own.shape[1]
    other = window[neighbour : neighbour + own.shape[0], 1:-1]
    at = np.flatnonzero(own != other)
    line, position = np.divmod(at, columns)
    ids = own[line, position]
    at, line, position, ids = (values[ids > 0] for values in (at, line, position, ids))
    new = np.ones(len(at) + 1, bool)
    new[1:-1] = (at[1:] != at[:-1] + 1) | (ids[1:] != ids[:-1]) | (line[1:] != line[:-1])
    first, last = np.flatnonzero(new[:-1]), np.flatnonzero(new[1:])
    return line[first], position[first], position[last], ids[first]


@dataclass
class Rings:
    """Closed rings sorted by object; ring i has the corners `start[i]`:`start[i + 1]`.

    `area`: in px, positive for outer rings, negative for holes. `knotted`: sorted ids of objects
    that touch themselves at a corner: their rings may visit a corner twice.
    """

    id: np.ndarray
    start: np.ndarray
    area: np.ndarray
    y: np.ndarray
    x: np.ndarray
    knotted: np.ndarray


def trace(sides: Sides) -> Rings:
    """Link the sides of whole objects to rings, each from its uppermost, leftmost corner on."""
    sides = sides.choose(np.lexsort((sides.heading, sides.x, sides.y, sides.id)))
    order, first = _walk(_followers(sides))
    walked = sides.choose(order)
    # Sides were cut at blocks' edges: only where the heading changes there is a corner.
    corner = np.ones(len(order), bool)
    corner[1:] = walked.heading[1:] != walked.heading[:-1]
    corner[first] = True
    # Signed area: each side's distance from the x axis times its way along it (Green's theorem).
    strips = -walked.y * STEP_X[walked.heading] * walked.length
    kept = np.flatnonzero(corner)
    same = (sides.id[1:] == sides.id[:-1]) & (sides.y[1:] == sides.y[:-1])
    same &= sides.x[1:] == sides.x[:-1]
    return Rings(
        walked.id[first],
        np.append(np.searchsorted(kept, first), len(kept)),
        np.add.reduceat(strips, first) if len(first) else strips,
        walked.y[kept],
        walked.x[kept],
        np.unique(sides.id[1:][same]),
    )


def _followers(sides: Sides) -> np.ndarray:
    """For each side the index of the next one: to the right if it can, then straight, then left.

    At most one side of a slide starts at a corner with a given heading, so position and heading
    name it. To the right first: pixels that touch at a corner only aren't connected there.
    """
    width = int((sides.x + sides.length).max(initial=0)) + 2
    keys = (sides.y * width + sides.x) * 4 + sides.heading
    order = np.argsort(keys)
    ranked = keys[order]
    end_y = sides.y + STEP_Y[sides.heading] * sides.length
    end_x = sides.x + STEP_X[sides.heading] * sides.length
    corner = (end_y * width + end_x) * 4
    following = np.full(len(sides), -1, np.int64)
    for turn in (1, 0, 3):
        left = np.flatnonzero(following < 0)
        wanted = corner[left] + (sides.heading[left] + turn) % 4
        place = np.searchsorted(ranked, wanted)
        place[place == len(ranked)] = 0
        hit = ranked[place] == wanted
        following[left[hit]] = order[place[hit]]
    if (following < 0).any():
        lost = sides.choose(np.flatnonzero(following < 0)[:1])
        raise SlideError(
            f"object {lost.id[0]} has no closed outline at y={lost.y[0]}, x={lost.x[0]}: "
            "it lies further down than the table of objects says; label the slide again"
        )
    return following


def _walk(following: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sides in the order of the rings, and where each ring begins in it."""
    step = following.tolist()
    seen = bytearray(len(step))
    order, first = [], []
    for start in range(len(step)):
        if seen[start]:
            continue
        first.append(len(order))
        at = start
        while not seen[at]:
            seen[at] = 1
            order.append(at)
            at = step[at]
    return np.array(order, np.int64), np.array(first, np.int64)


def polygons_of(rings: list[list]) -> list[list[list]]:
    """Group one object's rings (corners [[x, y], ...]) to polygons: outer ring, then holes.

    Rings that visit a corner twice are parted there first.
    """
    simple = [ring for corners in rings for ring in _part(corners)]
    outer = [ring for ring in simple if signed_area(ring) > 0]
    holes = [ring for ring in simple if signed_area(ring) < 0]
    polygons = [[ring] for ring in outer]
    if len(polygons) == 1:
        return [[outer[0], *holes]]
    for hole in holes:
        y, x = min((y, x) for x, y in hole)
        # The pixel above a hole's uppermost edge is the object's; of several outer rings around
        # it the smallest is its own.
        around = [p for p in polygons if _contains(p[0], x + 0.5, y - 0.5)]
        min(around, key=lambda polygon: signed_area(polygon[0])).append(hole)
    return polygons


def signed_area(ring: list) -> float:
    """Area in px of an open ring of [x, y], positive if it runs counter-clockwise."""
    following = [*ring[1:], ring[0]]
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, following, strict=True)) / 2


def _part(corners: list) -> list[list]:
    """Cut a ring into rings that visit each corner once.

    Both ways turn to the right where they meet; after the cut both turn to the left there.
    """
    found, way, place = [], [], {}
    for corner in corners:
        key = tuple(corner)
        if key in place:
            loop = way[place[key] :]
            for gone in loop[1:]:
                del place[tuple(gone)]
            found.append(loop)
            del way[place[key] + 1 :]
            continue
        place[key] = len(way)
        way.append(corner)
    found.append(way)
    return found


def _contains(ring: list, x: float, y: float) -> bool:
    following = [*ring[1:], ring[0]]
    crossed = sum(
        a[0] == b[0] and a[0] > x and min(a[1], b[1]) < y < max(a[1], b[1])
        for a, b in zip(ring, following, strict=True)
    )
    return crossed % 2 == 1
