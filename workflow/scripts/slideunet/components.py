"""Connected components of one block, and what the rest of the slide must know of them."""

from dataclasses import dataclass, field

import numpy as np

from slideunet.blocks import Block

# A border line of a block: what a neighbouring block needs to join its components to ours.
# `id` and `hole` are provisional numbers (0: none), `relief` and `arrow` are for splitting only.
LINE = np.dtype(
    [("id", "i8"), ("hole", "i8"), ("class", "u1"), ("relief", "i4"), ("arrow_y", "i1"),
     ("arrow_x", "i1")]
)  # fmt: skip


@dataclass
class Parts:
    """The components of one block; row i describes component i + 1.

    `first_px` and `last_px` are raster indices in the whole slide (int64: y * width + x).
    """

    class_of: np.ndarray
    area_px: np.ndarray
    first_px: np.ndarray
    last_px: np.ndarray
    peak: np.ndarray | None = None  # highest relief, for splitting only
    open: np.ndarray | None = None  # background only: reaches the slide's edge or unknown pixels

    def __len__(self) -> int:
        return len(self.area_px)


@dataclass
class Scan:
    """All that pass 1 keeps of one block."""

    block: Block
    parts: Parts
    lines: dict[str, np.ndarray]  # top, bottom, left, right: LINE arrays with local numbers
    holes: Parts | None = None
    touching: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.int64))
    saddles: np.ndarray = field(default_factory=lambda: np.empty((0, 3), np.int64))


def label_block(classes: np.ndarray, connectivity: int) -> np.ndarray:
    """Number the connected components of equal class 1, 2, ...; class 0 stays 0.

    `classes`: (y, x) uint8. Returns (y, x) unsigned, of the smallest type that holds them.
    """
    import cc3d

    if not classes.any():
        return np.zeros(classes.shape, np.uint16)
    return cc3d.connected_components(np.ascontiguousarray(classes), connectivity=connectivity)


def describe_parts(components: np.ndarray, classes: np.ndarray, block: Block, width: int) -> Parts:
    """Area, class, first and last pixel of each component of a block of a slide `width` wide."""
    flat = components.ravel()
    # Runs of equal numbers along the rows: there are some thirty times fewer of them than pixels.
    # That a run may go on from one row's end to the next row's start harms none of the sums.
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(starts, append=flat.size)
    numbers = flat[starts]
    inside = numbers > 0
    starts, lengths, numbers = starts[inside], lengths[inside], numbers[inside]
    count = int(numbers.max(initial=0))
    area = np.bincount(numbers, lengths, count + 1)[1:].astype(np.int64)
    first = np.zeros(count + 1, np.int64)
    last = np.zeros(count + 1, np.int64)
    # Where an index comes twice the last value stays (numpy: assigning values to indexed arrays).
    first[numbers[::-1]] = starts[::-1]
    last[numbers] = starts + lengths - 1
    first, last = first[1:], last[1:]
    return Parts(
        class_of=classes.ravel()[first] if count else np.empty(0, np.uint8),
        area_px=area,
        first_px=to_slide(first, block, width),
        last_px=to_slide(last, block, width),
    )


def to_slide(flat: np.ndarray, block: Block, width: int) -> np.ndarray:
    """Raster indices in a block -> raster indices (int64) in the whole slide."""
    y, x = np.divmod(flat.astype(np.int64), block.x1 - block.x0)
    return (y + block.y0) * width + x + block.x0


def border_lines(layers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The four border lines of a block as LINE arrays; `layers`: field name -> (y, x) array."""
    sides = {
        "top": np.s_[0, :],
        "bottom": np.s_[-1, :],
        "left": np.s_[:, 0],
        "right": np.s_[:, -1],
    }
    shape = next(iter(layers.values())).shape
    lines = {}
    for side, where in sides.items():
        line = np.zeros(shape[1] if side in ("top", "bottom") else shape[0], LINE)
        for name, values in layers.items():
            line[name] = values[where]
        lines[side] = line
    return lines


def unique_pairs(pairs: np.ndarray) -> np.ndarray:
    """The distinct rows of an (n, 2) int64 array, sorted."""
    if len(pairs) == 0:
        return np.empty((0, 2), np.int64)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    pairs = pairs[order]
    new = np.ones(len(pairs), bool)
    new[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    return pairs[new]
