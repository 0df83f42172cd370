"""Touching objects parted by a watershed that gives the same answer for any block size.

A relief (distance to the object's edge, or the class probability) is smoothed; each pixel belongs
to the summit that it reaches by the steepest way up, which needs its neighbours only, so that
basins join across blocks as components do. Neighbouring basins whose saddle lies less than
`min_depth` below the lower summit are one object (the h-maxima criterion: Soille, Morphological
Image Analysis, 2nd ed., 6.3.4). What is limited is the relief alone: distances count up to
`reach_px`, so parts thicker than 2 reach_px are not parted in their inside.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from slideunet.blocks import Block
from slideunet.components import Parts, describe_parts
from slideunet.probability import read_probabilities

# Relief is kept in whole steps of this many per px (or per unit of probability): rounding that
# depended on where a block begins could otherwise turn an arrow.
STEPS = 1024
# Offsets in raster order: among equal neighbours the first wins, so that every plateau drains to
# one pixel and no arrows run in a circle.
OFFSETS = {
    4: ((-1, 0), (0, -1), (0, 0), (0, 1), (1, 0)),
    8: tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)),
}


@dataclass(frozen=True)
class Split:
    """How touching objects are parted.

    `by`: "distance" (min_depth in px) or "probability" (min_depth in 0..1); `smooth_px`: standard
    deviation of the Gaussian; `reach_px`: largest distance told apart.
    """

    by: Literal["distance", "probability"] = "distance"
    min_depth: float = 1.0
    smooth_px: float = 1.0
    reach_px: int = 32

    @property
    def halo_px(self) -> int:
        """Pixels needed around a block: the distance's reach, the Gaussian's, one neighbour."""
        return (self.reach_px if self.by == "distance" else 0) + self._radius_px + 1

    @property
    def _radius_px(self) -> int:
        return int(4 * self.smooth_px + 0.5)  # scipy.ndimage's own rule at truncate=4


def find_basins(
    classes, probabilities, split: Split, connectivity: int, ignore_class: int, block: Block
) -> "Basins":
    """Read a block with its halo from `classes` (Y, X) and part it into basins."""
    height, width = classes.shape
    halo = split.halo_px
    y0, x0 = max(block.y0 - halo, 0), max(block.x0 - halo, 0)
    where = np.s_[y0 : min(block.y1 + halo, height), x0 : min(block.x1 + halo, width)]
    window = np.asarray(classes[where])
    window = np.where(window == ignore_class, np.uint8(0), window)
    probability = None
    if split.by == "probability":
        values = read_probabilities(probabilities, where)
        probability = np.take_along_axis(values, window[None].astype(np.intp), axis=0)[0]
        probability[window == 0] = 0  # the smoothing must not raise the objects' edges
    # One pixel around the block, 0 beyond the slide: nothing leads there.
    ring = tuple(
        np.s_[max(start - 1, 0) - origin : min(stop + 1, end) - origin]
        for start, stop, origin, end in (
            (block.y0, block.y1, y0, height), (block.x0, block.x1, x0, width)
        )
    )  # fmt: skip
    beyond = (
        (int(block.y0 == 0), int(block.y1 == height)),
        (int(block.x0 == 0), int(block.x1 == width)),
    )
    ground = relief(window, probability, split)
    return basins(np.pad(window[ring], beyond), np.pad(ground[ring], beyond), connectivity)


def relief(classes: np.ndarray, probability: np.ndarray | None, split: Split) -> np.ndarray:
    """Height of each pixel (y, x), int32 in 1/STEPS, 0 where `classes` is 0.

    `classes` and `probability` (float, 0..1) reach `split.halo_px` beyond the block, or to the
    slide's edge; the result is right one pixel beyond the block.
    """
    from scipy import ndimage

    if split.by == "probability":
        height = probability.astype(np.float64)
    else:
        height = np.zeros(classes.shape)
        for number in np.unique(classes[classes > 0]):
            inside = classes == number
            if inside.all():
                height[:] = split.reach_px
            else:
                distance = ndimage.distance_transform_edt(inside)
                height += np.minimum(distance, split.reach_px)
    if split.smooth_px > 0:
        height = ndimage.gaussian_filter(height, split.smooth_px, mode="nearest")
    height = np.rint(height * STEPS).astype(np.int32)
    return np.where(classes > 0, height, 0)


@dataclass
class Basins:
    """A block's basins 1, 2, ... and the arrows (-1, 0, 1) that lead out of the block."""

    numbers: np.ndarray  # (y, x)
    arrow_y: np.ndarray
    arrow_x: np.ndarray
    relief: np.ndarray
    saddles: np.ndarray  # (n, 3): basin, basin, highest relief on the way between them


def basins(ringed: np.ndarray, height: np.ndarray, connectivity: int) -> Basins:
    """Follow the steepest way up; `ringed`, `height`: classes and relief with one pixel around."""
    classes, own = ringed[1:-1, 1:-1], height[1:-1, 1:-1]
    best = np.full(classes.shape, -1, np.int32)
    arrow_y, arrow_x = (np.zeros(classes.shape, np.int8) for _ in range(2))
    rows, columns = classes.shape
    for y, x in OFFSETS[connectivity]:
        there = np.s_[1 + y : 1 + y + rows, 1 + x : 1 + x + columns]
        better = (ringed[there] == classes) & (height[there] > best) & (classes > 0)
        best[better] = height[there][better]
        arrow_y[better], arrow_x[better] = y, x
    to_y = np.arange(rows)[:, None] + arrow_y
    to_x = np.arange(columns)[None, :] + arrow_x
    leaves = (to_y < 0) | (to_y >= rows) | (to_x < 0) | (to_x >= columns)
    here = np.arange(rows * columns).reshape(rows, columns)
    target = np.where(leaves, here, to_y * columns + to_x).ravel()
    while True:  # each turn doubles the way gone
        further = target[target]
        if np.array_equal(further, target):
            break
        target = further
    inside = classes.ravel() > 0
    numbers = np.zeros(rows * columns, np.int64)
    numbers[inside] = np.unique(target[inside], return_inverse=True)[1] + 1
    numbers = numbers.reshape(rows, columns)
    arrow_y[~leaves] = 0
    arrow_x[~leaves] = 0
    saddles = _saddles(numbers, classes, own, connectivity)
    return Basins(numbers, arrow_y, arrow_x, own, saddles)


def _saddles(numbers, classes, height, connectivity: int) -> np.ndarray:
    rows, columns = numbers.shape
    found = [np.empty((0, 3), np.int64)]
    for y, x in OFFSETS[connectivity]:
        if (y, x) <= (0, 0):
            continue  # each pair of neighbours once
        a = np.s_[: rows - y, max(-x, 0) : columns - max(x, 0)]
        b = np.s_[y:, max(x, 0) : columns + min(x, 0)]
        meet = (numbers[a] != numbers[b]) & (classes[a] == classes[b]) & (numbers[a] > 0)
        lower = np.minimum(height[a], height[b])[meet]
        found.append(np.stack([numbers[a][meet], numbers[b][meet], lower], axis=1))
    return highest_saddles(np.concatenate(found))


def highest_saddles(saddles: np.ndarray) -> np.ndarray:
    """One row (low number, high number, highest relief) for each pair of basins; sorted."""
    pairs = np.sort(saddles[:, :2], axis=1)
    order = np.lexsort((saddles[:, 2], pairs[:, 1], pairs[:, 0]))
    pairs, heights = pairs[order], saddles[order, 2]
    last = np.ones(len(order), bool)
    last[:-1] = (pairs[1:] != pairs[:-1]).any(axis=1)
    last &= pairs[:, 0] != pairs[:, 1]
    return np.column_stack([pairs[last], heights[last]])


def describe_basins(found: Basins, classes: np.ndarray, block, width: int) -> Parts:
    """As `describe_parts`, with each basin's highest relief."""
    parts = describe_parts(found.numbers, classes, block, width)
    parts.peak = np.zeros(len(parts) + 1, np.int64)
    np.maximum.at(parts.peak, found.numbers.ravel(), found.relief.ravel())
    parts.peak = parts.peak[1:]
    return parts


def merge_shallow(
    saddles: np.ndarray, peak: np.ndarray, first_px: np.ndarray, depth: int
) -> np.ndarray:
    """Pairs (n, 2) of basins to be merged, by falling saddle height.

    `saddles` as from `highest_saddles`, `peak` and `first_px` by basin number. A basin joins the
    other side of its saddle if its summit stands less than `depth` above it.
    """
    low, high = saddles[:, 0], saddles[:, 1]
    first = np.minimum(first_px[low], first_px[high])
    second = np.maximum(first_px[low], first_px[high])
    # Equal heights are taken in an order that does not depend on the blocks' numbering.
    order = np.lexsort((second, first, -saddles[:, 2]))
    parent: dict[int, int] = {}
    top: dict[int, int] = {}

    def root(number: int) -> int:
        while (up := parent.get(number, number)) != number:
            parent[number] = parent.get(up, up)
            number = up
        return number

    merged = []
    for one, other, height in saddles[order].tolist():
        a, b = root(one), root(other)
        summits = top.get(a, int(peak[a])), top.get(b, int(peak[b]))
        if a != b and min(summits) - height < depth:
            parent[b] = a
            top[a] = max(summits)
            merged.append((a, b))
    return np.array(merged, np.int64).reshape(-1, 2)
