"""A slide cut into blocks that are read in raster order by a few threads: memory stays flat."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Block:
    """Rows y0..y1 and columns x0..x1 (ends excluded); `number` counts in raster order."""

    number: int
    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.y1 - self.y0, self.x1 - self.x0


def bands(shape: tuple[int, int], block_px: int) -> list[list[Block]]:
    """Cut `shape` = (rows, columns) into rows of blocks of `block_px`; the last ones are smaller.

    Raises ValueError if `block_px` is below 1 or `shape` isn't two numbers.
    """
    if block_px < 1:
        raise ValueError(f"block_px is {block_px}; it must be at least 1")
    height, width = shape
    if 0 in (height, width):
        return []
    columns = range(0, width, block_px)
    return [
        [
            Block(
                row * len(columns) + column,
                y0,
                x0,
                min(y0 + block_px, height),
                min(x0 + block_px, width),
            )
            for column, x0 in enumerate(columns)
        ]
        for row, y0 in enumerate(range(0, height, block_px))
    ]


def ordered_map(function: Callable, items: Iterable, workers: int = 1) -> Iterator:
    """`map` on `workers` threads: results in the order of the items, few of them held at a time.

    Threads, because the work is done by compiled code that lets others run (codecs, numpy).
    """
    if workers <= 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        running: deque = deque()
        for item in items:
            running.append(pool.submit(function, item))
            # One result waits while every worker has something to do: memory doesn't grow with
            # the slide when the consumer is the slower side.
            if len(running) > workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def read_window(array, y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
    """Read rows y0..y1 and columns x0..x1 of `array` (Y, X); what lies beyond the slide is 0."""
    height, width = array.shape
    inside = array[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    inside = np.asarray(inside)
    if inside.shape == (y1 - y0, x1 - x0):
        return inside
    window = np.zeros((y1 - y0, x1 - x0), inside.dtype)
    top, left = max(-y0, 0), max(-x0, 0)
    window[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return window
