"""Area of convex hulls of many objects at once, from the outermost pixels of each of their rows.

scikit-image's definition (`convex_hull_image`, used by regionprops' area_convex and solidity): the
hull of the midpoints of all pixel edges; a pixel belongs to it if its centre lies inside or on it.
All coordinates are doubled here, so that midpoints are whole numbers and every test is exact.
"""

import numpy as np

FAR = np.int64(2**40)  # stands for "no point in this row"
# Rows of the padded matrices are as long as the tallest object of a batch: so many cells at most.
BATCH_CELLS = 500_000


def convex_areas(
    counts: np.ndarray, y: np.ndarray, x_first: np.ndarray, x_last: np.ndarray
) -> np.ndarray:
    """Pixels (int64) in each object's convex hull.

    Object i owns the next `counts[i]` rows; of each row `y` (rising within an object) are given
    the first and the last pixel `x_first` <= `x_last`. A row may be missing, none may come twice.
    """
    ends = np.cumsum(counts)
    starts = ends - counts
    areas = np.zeros(len(counts), np.int64)
    if len(counts) == 0:
        return areas
    heights = y[ends - 1] - y[starts] + 1
    order = np.argsort(heights, kind="stable")
    done = 0
    while done < len(order):
        # Objects of about equal height together: little of the matrix is padding.
        many = max(1, int(BATCH_CELLS // (2 * heights[order[done]] + 1)))
        chosen = order[done : done + many]
        many = max(1, int(BATCH_CELLS // (2 * heights[chosen[-1]] + 1)))
        chosen = chosen[: min(many, len(chosen))]
        areas[chosen] = _areas(chosen, starts, counts, y, x_first, x_last, heights[chosen])
        done += len(chosen)
    return areas


def _areas(chosen, starts, counts, y, x_first, x_last, heights) -> np.ndarray:
    lengths = counts[chosen]
    owner = np.repeat(np.arange(len(chosen)), lengths)
    rows = np.arange(len(owner)) + np.repeat(
        starts[chosen] - (np.cumsum(lengths) - lengths), lengths
    )
    line = y[rows] - np.repeat(y[starts[chosen]], lengths)
    left = _left_chain(owner, line, x_first[rows], len(chosen), int(heights.max()))
    # The right side is the left side of the mirrored object.
    right = -_left_chain(owner, line, -x_last[rows], len(chosen), int(heights.max()))
    inside = np.arange(left.shape[1]) < heights[:, None]
    return np.where(inside, right - left + 1, 0).sum(axis=1)


def _left_chain(owner, line, x, count: int, height: int) -> np.ndarray:
    """First pixel of the hull in each row: (count, height) int64."""
    # Doubled coordinates: column 2 * line + 1 of the matrix is the row's own line, its neighbours
    # are the lines between the rows.
    points = np.full((count, 2 * height + 1), FAR)
    points[owner, 2 * line + 1] = 2 * x - 1
    np.minimum.at(points, (owner, 2 * line), 2 * x)
    np.minimum.at(points, (owner, 2 * line + 2), 2 * x)
    corner_y, corner_x, top = _lower_hull(points)
    # For each line the last corner at or above it, then the hull's edge from there, rounded up.
    every = np.arange(count)
    first = np.empty((count, height), np.int64)
    edge = np.zeros(count, np.intp)
    for row in range(height):
        at = 2 * row + 1
        while True:
            next_edge = np.minimum(edge + 1, top)
            on = (corner_y[every, next_edge] <= at) & (edge < top)
            if not on.any():
                break
            edge[on] += 1
        after = np.minimum(edge + 1, top)
        y0, x0 = corner_y[every, edge], corner_x[every, edge]
        run, rise = corner_y[every, after] - y0, corner_x[every, after] - x0
        run = np.maximum(run, 1)
        first[:, row] = -(-(x0 * run + rise * (at - y0)) // (2 * run))
    return first


def _lower_hull(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Andrew's monotone chain, a step of all objects at a time; `points`: (objects, lines) x.

    Returns the corners' lines and x, (objects, lines) each, and the index of the last corner.
    """
    count, lines = points.shape
    corner_y = np.zeros((count, lines), np.int64)
    corner_x = np.zeros((count, lines), np.int64)
    top = np.full(count, -1, np.intp)
    for line in range(lines):
        here = np.flatnonzero(points[:, line] < FAR)
        x = points[here, line]
        check = np.arange(len(here))
        while len(check):
            check = check[top[here[check]] >= 1]
            who = here[check]
            y1, x1 = corner_y[who, top[who]], corner_x[who, top[who]]
            y0, x0 = corner_y[who, top[who] - 1], corner_x[who, top[who] - 1]
            # The last corner goes if it doesn't lie left of the line from the one before to here.
            bulges = (x1 - x0) * (line - y0) >= (x[check] - x0) * (y1 - y0)
            top[who[bulges]] -= 1
            check = check[bulges]
        top[here] += 1
        corner_y[here, top[here]] = line
        corner_x[here, top[here]] = x
    return corner_y, corner_x, top
