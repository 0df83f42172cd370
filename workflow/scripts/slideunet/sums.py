"""What is summed up of each object in a block, and how two blocks' sums become one.

All sums are integers, so the order of blocks can't change the last digit. Second-order sums are
kept twice: modulo 2^64, as int64 arithmetic does by itself, and roughly, as float64; together they
give the exact value where it exceeds int64 (`exact`): an object may cover the whole slide.
"""

from dataclasses import dataclass

import numpy as np

# Column -> how two values become one. Signals append a space and their number: "sum 3".
REDUCE = {
    "n": np.add, "y": np.add, "x": np.add,
    "yy": np.add, "xx": np.add, "xy": np.add,
    "yy~": np.add, "xx~": np.add, "xy~": np.add,
    "y0": np.minimum, "x0": np.minimum, "y1": np.maximum, "x1": np.maximum,
    "straight": np.add, "diagonal": np.add, "corner": np.add,
    "sum": np.add, "square": np.add, "square~": np.add, "bad": np.add,
    "min": np.minimum, "max": np.maximum,
}  # fmt: skip


@dataclass
class Runs:
    """Runs of equal id along the rows of a block, sorted by id, then in raster order.

    `y`, `x0`, `x1`: slide coordinates, x1 included; `first`: index of each object's first run.
    """

    ids: np.ndarray
    first: np.ndarray
    y: np.ndarray
    x0: np.ndarray
    x1: np.ndarray


def find_runs(labels: np.ndarray, y0: int, x0: int) -> Runs:
    """`labels`: (y, x) block whose first pixel lies at `y0`, `x0` of the slide."""
    rows, columns = labels.shape
    begins = np.ones((rows, columns), bool)
    begins[:, 1:] = labels[:, 1:] != labels[:, :-1]
    starts = np.flatnonzero(begins.ravel())
    lengths = np.diff(starts, append=rows * columns)
    ids = labels.ravel()[starts]
    order = np.argsort(ids, kind="stable")
    order = order[np.searchsorted(ids, 0, side="right", sorter=order) :]
    ids, starts, lengths = ids[order], starts[order], lengths[order]
    distinct, first = np.unique(ids, return_index=True)
    y, x = np.divmod(starts.astype(np.int64), columns)
    return Runs(distinct, first, y + y0, x + x0, x + x0 + lengths - 1)


def shape_sums(runs: Runs) -> dict[str, np.ndarray]:
    """Number of pixels, first and second moments about the slide's origin, bounding box."""
    y, x0, x1 = runs.y, runs.x0, runs.x1
    n = x1 - x0 + 1
    x = (x0 + x1) * n // 2
    # Sum of squares x0^2 .. x1^2 as the difference of two pyramids.
    xx = x1 * (x1 + 1) * (2 * x1 + 1) // 6 - (x0 - 1) * x0 * (2 * x0 - 1) // 6
    sums = {"n": n, "y": y * n, "x": x, "yy": y * y * n, "xx": xx, "xy": y * x}
    table = {name: _reduce(np.add, values, runs.first) for name, values in sums.items()}
    for name in ("yy", "xx", "xy"):
        table[name + "~"] = _reduce(np.add, sums[name].astype(np.float64), runs.first)
    table["y0"] = _reduce(np.minimum, y, runs.first)
    table["y1"] = _reduce(np.maximum, y, runs.first)
    table["x0"] = _reduce(np.minimum, x0, runs.first)
    table["x1"] = _reduce(np.maximum, x1, runs.first)
    return table


def row_ends(runs: Runs) -> dict[str, np.ndarray]:
    """First and last pixel of each object in each row: columns id, y, x0, x1; sorted."""
    owner = np.repeat(runs.ids, np.diff(runs.first, append=len(runs.y)))
    return merge_rows([{"id": owner, "y": runs.y, "x0": runs.x0, "x1": runs.x1}])


def merge_rows(tables: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Join tables of `row_ends`: the outermost pixels of each object's row."""
    rows = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    order = np.lexsort((rows["y"], rows["id"]))
    rows = {name: values[order] for name, values in rows.items()}
    new = np.ones(len(order), bool)
    new[1:] = (rows["id"][1:] != rows["id"][:-1]) | (rows["y"][1:] != rows["y"][:-1])
    first = np.flatnonzero(new)
    return {
        "id": rows["id"][first],
        "y": rows["y"][first],
        "x0": _reduce(np.minimum, rows["x0"], first),
        "x1": _reduce(np.maximum, rows["x1"], first),
    }


def perimeter_sums(window: np.ndarray, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Counts of three kinds of border pixel for each of `ids` (sorted).

    `window`: the block with two pixels around it. scikit-image's perimeter (Benkrid & Crookes):
    a border pixel has a 4-neighbour outside the object; it counts 1, sqrt 2 or (1 + sqrt 2) / 2
    by how many 4- and 8-neighbours are border pixels of the same object.
    """
    inner = window[1:-1, 1:-1]
    border = inner > 0
    border &= (
        (inner != window[:-2, 1:-1]) | (inner != window[2:, 1:-1])
        | (inner != window[1:-1, :-2]) | (inner != window[1:-1, 2:])
    )  # fmt: skip
    columns = inner.shape[1]
    edge = np.where(border, inner, 0).ravel()
    own = np.zeros(inner.shape, bool)
    own[1:-1, 1:-1] = border[1:-1, 1:-1]
    at = np.flatnonzero(own.ravel())
    label = edge[at]
    code = np.ones(len(at), np.int64)
    for step, weight in (
        (-1, 2), (1, 2), (-columns, 2), (columns, 2),
        (-columns - 1, 10), (-columns + 1, 10), (columns - 1, 10), (columns + 1, 10),
    ):  # fmt: skip
        code += weight * (edge[at + step] == label)
    kind = PERIMETER_KIND[code]
    row = np.searchsorted(ids, label)
    counts = np.bincount(row * 4 + kind, minlength=len(ids) * 4).reshape(len(ids), 4)
    return {"straight": counts[:, 1], "diagonal": counts[:, 2], "corner": counts[:, 3]}


# Code 1 + 2 * (border 4-neighbours) + 10 * (border diagonal neighbours) -> kind of border pixel.
PERIMETER_KIND = np.zeros(50, np.int64)
PERIMETER_KIND[[5, 7, 15, 17, 25, 27]] = 1
PERIMETER_KIND[[21, 33]] = 2
PERIMETER_KIND[[13, 23]] = 3


def pixel_order(runs: Runs, y0: int, x0: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices of a block's object pixels, sorted by object, and where each object begins."""
    lengths = runs.x1 - runs.x0 + 1
    ends = np.cumsum(lengths)
    start = (runs.y - y0) * columns + runs.x0 - x0
    pixels = np.arange(ends[-1] if len(ends) else 0) + np.repeat(start - ends + lengths, lengths)
    return pixels, (ends - lengths)[runs.first]


def signal_sums(values: np.ndarray, steps: np.ndarray, first: np.ndarray) -> dict[str, np.ndarray]:
    """Sums of one signal; `values` as measured, `steps` the same in whole steps (int64)."""
    finite = np.isfinite(values)
    return {
        "sum": _reduce(np.add, steps, first),
        "square": _reduce(np.add, steps * steps, first),
        "square~": _reduce(np.add, steps.astype(np.float64) ** 2, first),
        "bad": _reduce(np.add, (~finite).astype(np.int64), first),
        "min": _reduce(np.minimum, values, first).astype(np.float64),
        "max": _reduce(np.maximum, values, first).astype(np.float64),
    }


def merge_sums(tables: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Join tables of sums (column "id" and columns of REDUCE) to one row per id, sorted."""
    rows = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    order = np.argsort(rows["id"], kind="stable")
    ids, first = np.unique(rows["id"][order], return_index=True)
    merged = {"id": ids}
    for name, values in rows.items():
        if name != "id":
            merged[name] = _reduce(REDUCE[name.split(" ")[0]], values[order], first)
    return merged


def exact(wrapped: np.ndarray, rough: np.ndarray) -> np.ndarray:
    """The float64 next to a whole number known modulo 2^64 and, to within 2^62, as a float."""
    turns = np.rint((rough - wrapped.astype(np.float64)) / 2.0**64)
    return wrapped.astype(np.float64) + turns * 2.0**64


def _reduce(operation: np.ufunc, values: np.ndarray, first: np.ndarray) -> np.ndarray:
    return operation.reduceat(values, first) if len(first) else values[:0]
