"""From the pieces found in the blocks to the objects of the slide."""

from dataclasses import fields

import numpy as np

from slideunet.components import Parts, unique_pairs
from slideunet.seeds import highest_saddles, merge_shallow


def stack_parts(parts: list[Parts]) -> Parts:
    """All blocks' parts one after the other; row i describes provisional number i + 1."""
    if not parts:
        none = np.empty(0, np.int64)
        return Parts(np.empty(0, np.uint8), none, none, none, none, np.empty(0, bool))
    columns = {}
    for field in fields(Parts):
        values = [getattr(part, field.name) for part in parts]
        columns[field.name] = None if values[0] is None else np.concatenate(values)
    return Parts(**columns)


def groups_of(pairs: np.ndarray, count: int) -> np.ndarray:
    """The smallest number joined to each of 0..count by `pairs` (n, 2) int64, directly or not.

    Only numbers that occur in `pairs` become nodes of the graph, which scipy counts in int32: the
    numbers themselves may be as large as int64 goes.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    group = np.arange(count + 1, dtype=np.int64)
    nodes, ends = np.unique(pairs, return_inverse=True)
    ends = ends.reshape(-1, 2)
    graph = coo_array(
        (np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), (len(nodes), len(nodes))
    )
    _, component = connected_components(graph, directed=False)
    smallest = np.empty(len(nodes), np.int64)
    smallest[component[::-1]] = nodes[::-1]  # the last value stays: that of the first node
    group[nodes] = smallest[component]
    return group


def merge_parts(parts: Parts, group: np.ndarray) -> Parts:
    """Sums and extremes over each group, in the row of its smallest number."""
    row = group[1:] - 1
    area = np.zeros_like(parts.area_px)
    np.add.at(area, row, parts.area_px)
    first, last = parts.first_px.copy(), parts.last_px.copy()
    np.minimum.at(first, row, parts.first_px)
    np.maximum.at(last, row, parts.last_px)
    peak = opened = None
    if parts.peak is not None:
        peak = parts.peak.copy()
        np.maximum.at(peak, row, parts.peak)
    if parts.open is not None:
        opened = parts.open.copy()
        np.logical_or.at(opened, row, parts.open)
    return Parts(parts.class_of, area, first, last, peak, opened)


def split_groups(joins: np.ndarray, saddles: np.ndarray, parts: Parts, depth: int) -> np.ndarray:
    """As `groups_of`, for basins: those parted by shallow saddles only are one object."""
    group = groups_of(joins, len(parts))
    merged = merge_parts(parts, group)
    saddles = np.column_stack([group[saddles[:, 0]], group[saddles[:, 1]], saddles[:, 2]])
    peak = np.concatenate([[0], merged.peak])
    first_px = np.concatenate([[0], merged.first_px])
    shallow = merge_shallow(highest_saddles(saddles), peak, first_px, depth)
    return groups_of(np.concatenate([joins, shallow]), len(parts))


def fill_holes(
    holes: Parts,
    hole_joins: np.ndarray,
    touching: np.ndarray,
    objects: Parts,
    group: np.ndarray,
    limit_px: int,
) -> np.ndarray:
    """For each hole number 0.. the object number that it is filled with, or 0.

    `touching`: pairs (hole, object). Adds the filled areas to `objects` (merged parts).
    """
    hole_group = groups_of(hole_joins, len(holes))
    merged = merge_parts(holes, hole_group)
    sides = unique_pairs(np.column_stack([hole_group[touching[:, 0]], group[touching[:, 1]]]))
    neighbours = np.bincount(sides[:, 0], minlength=len(holes) + 1)
    fillable = np.zeros(len(holes) + 1, bool)
    fillable[1:] = (merged.area_px <= limit_px) & ~merged.open & (neighbours[1:] == 1)
    owner = np.zeros(len(holes) + 1, np.int64)
    owner[sides[:, 0]] = sides[:, 1]
    owner[~fillable] = 0
    own = np.flatnonzero((hole_group == np.arange(len(hole_group))) & (owner > 0))
    np.add.at(objects.area_px, owner[own] - 1, merged.area_px[own - 1])
    return owner[hole_group]
