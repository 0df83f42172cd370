"""Measurements of every object of a slide, by scikit-image's regionprops definitions.

The slide is read block by block; what is summed up of an object merges across blocks exactly
(`sums`), so the answer doesn't depend on the block size. Rows come out in batches, in the order of
ids, as soon as all objects before them are complete. Memory holds the sums (some 300 bytes per
object, 100 per channel, and the outermost pixels of each of its rows) of the objects of one row of
blocks, of those that reach beyond it, and the numbers of those that wait for one that does.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from slideunet.blocks import Block, bands, ordered_map, read_window
from slideunet.columns import STATISTICS
from slideunet.errors import SlideError
from slideunet.hull import convex_areas
from slideunet.shape import centroid_and_spread, eccentricity, mean_and_std, orientation
from slideunet.signals import Sources, check_sources, find_peaks, read_signals
from slideunet.sums import (
    find_runs,
    merge_rows,
    merge_sums,
    perimeter_sums,
    pixel_order,
    row_ends,
    shape_sums,
    signal_sums,
)


def measure_objects(
    labels,
    last_row: np.ndarray,
    class_of: np.ndarray,
    *,
    first_id: int = 1,
    class_names: list[str] | None = None,
    mpp_um: tuple[float, float] | None = None,
    sources: Sources | None = None,
    block_px: int = 2048,
    workers: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield batches {column: values} of the columns of `columns.object_columns`, ids rising.

    `labels`: array-like (Y, X) of unsigned integers, numbered from `first_id` in raster order of
    first pixels; `last_row`, `class_of`: of object first_id + i (as `Instances` has them).
    `mpp_um`: pixel size (y, x); without it the columns in um are NaN. Raises SlideError if arrays
    don't fit each other or the label image holds other ids.
    """
    sources = sources or Sources()
    check_sources(sources, labels.shape)
    if len(labels.shape) != 2 or np.dtype(labels.dtype).kind != "u":
        raise SlideError(
            f"label image is {tuple(labels.shape)} {labels.dtype}; it must be (Y, X) unsigned"
        )
    if sources.image is not None and np.dtype(sources.image.dtype).kind == "f":
        sources = replace(sources, peaks=find_peaks(sources.image, block_px, workers))
    names = class_names or []

    def sums(block: Block):
        return _block_sums(labels, class_of, first_id, sources, block)

    open_sums, open_rows, done = [], [], []
    for band in bands(labels.shape, block_px):
        for table, rows in ordered_map(sums, band, workers):
            open_sums.append(table)
            open_rows.append(rows)
        table, rows = merge_sums(open_sums), merge_rows(open_rows)
        complete = last_row[_index(table["id"], first_id)] < band[0].y1
        closed = _choose(table, complete)
        own_rows = np.isin(rows["id"], closed["id"])
        done.append(_finish(closed, _choose(rows, own_rows), sources, labels.shape))
        open_sums, open_rows = [_choose(table, ~complete)], [_choose(rows, ~own_rows)]
        ready, done = _ready(done, open_sums[0]["id"])
        if len(ready["id"]):
            yield _describe(ready, class_of, first_id, names, mpp_um, labels.dtype)


def _ready(done: list[dict], waiting: np.ndarray) -> tuple[dict, list[dict]]:
    """The measured objects that no open object (ids `waiting`) precedes, by id; and the rest.

    Ids rise with the first pixel: what is still to be read is larger than all seen so far.
    """
    if len(waiting) and min((t["id"].min() for t in done if len(t["id"])), default=0) > waiting[0]:
        return _choose(done[0], slice(0, 0)), done
    table = {name: np.concatenate([part[name] for part in done]) for name in done[0]}
    table = _choose(table, np.argsort(table["id"], kind="stable"))
    cut = np.searchsorted(table["id"], waiting[0]) if len(waiting) else len(table["id"])
    return _choose(table, slice(0, cut)), [_choose(table, slice(cut, None))]


def _index(ids: np.ndarray, first_id: int) -> np.ndarray:
    return (ids - ids.dtype.type(first_id)).astype(np.int64)


def _choose(table: dict, rows) -> dict[str, np.ndarray]:
    return {name: values[rows] for name, values in table.items()}


def _block_sums(labels, class_of, first_id: int, sources: Sources, block: Block):
    """The sums of one block and the outermost pixels of its objects' rows."""
    window = read_window(labels, block.y0 - 2, block.x0 - 2, block.y1 + 2, block.x1 + 2)
    own = np.ascontiguousarray(window[2:-2, 2:-2])
    runs = find_runs(own, block.y0, block.x0)
    ids = runs.ids
    if len(ids) and (ids[0] < first_id or int(ids[-1]) - first_id >= len(class_of)):
        raise SlideError(
            f"label image holds ids {ids[0]}..{ids[-1]} at y={block.y0}, x={block.x0}; known are "
            f"{first_id}..{first_id + len(class_of) - 1}: it doesn't belong to these objects"
        )
    table = {"id": ids, **shape_sums(runs), **perimeter_sums(window, ids)}
    if sources.names:
        pixels, first = pixel_order(runs, block.y0, block.x0, own.shape[1])
        lengths = np.diff(first, append=len(pixels))
        classes = np.repeat(class_of[_index(ids, first_id)], lengths)
        where = np.s_[block.y0 : block.y1, block.x0 : block.x1]
        signals = read_signals(sources, where, pixels, classes)
        for number, (values, steps) in enumerate(signals):
            for name, column in signal_sums(values, steps, first).items():
                table[f"{name} {number}"] = column
    return table, row_ends(runs)


def _finish(table: dict, rows: dict, sources: Sources, shape) -> dict[str, np.ndarray]:
    """From the sums of complete objects to their measurements in pixels."""
    _, counts = np.unique(rows["id"], return_counts=True)
    convex = convex_areas(counts, rows["y"], rows["x0"], rows["x1"])
    y, x, *spread = centroid_and_spread(table)
    found = {
        "id": table["id"],
        "centroid_y_px": y, "centroid_x_px": x,
        "bbox_y0_px": table["y0"], "bbox_x0_px": table["x0"],
        "bbox_y1_px": table["y1"] + 1, "bbox_x1_px": table["x1"] + 1,
        "area_px": table["n"],
        "perimeter_px": table["straight"] + np.sqrt(2) * table["diagonal"]
        + (1 + np.sqrt(2)) / 2 * table["corner"],
        "eccentricity": eccentricity(*spread),
        "solidity": table["n"] / convex,
        "orientation_rad": orientation(*spread),
        "touches_edge": (table["y0"] == 0) | (table["x0"] == 0)
        | (table["y1"] == shape[0] - 1) | (table["x1"] == shape[1] - 1),
    }  # fmt: skip
    for number, (name, step) in enumerate(zip(sources.names, sources.steps, strict=True)):
        mean, std = (value * step for value in mean_and_std(table, number))
        if name in ("probability", "entropy"):
            found["probability_mean" if name == "probability" else "entropy_mean_nats"] = mean
            continue
        values = (mean, std, table[f"min {number}"], table[f"max {number}"])
        for statistic, value in zip(STATISTICS, values, strict=True):
            # As numpy has it: one pixel that is no number makes the statistics none.
            bad = table[f"bad {number}"] > 0
            found[f"{name}_{statistic}"] = np.where(bad, np.nan, value)
    return found


def _describe(batch, class_of, first_id: int, class_names, mpp_um, dtype) -> dict:
    """Add what follows from id, class and pixel size."""
    classes = class_of[_index(batch["id"], first_id)].astype(np.uint8)
    names = np.array([*class_names, *map(str, range(len(class_names), 256))], object)
    height_um, width_um = mpp_um or (np.nan, np.nan)
    return {
        **batch,
        "id": batch["id"].astype(dtype),
        "class": classes,
        "class_name": names[classes],
        # The slide's edge is the first pixel's edge, half a pixel before its centre.
        "centroid_y_um": (batch["centroid_y_px"] + 0.5) * height_um,
        "centroid_x_um": (batch["centroid_x_px"] + 0.5) * width_um,
        "area_um2": batch["area_px"] * (height_um * width_um),
        "perimeter_um": batch["perimeter_px"] * np.sqrt(height_um * width_um),
    }
