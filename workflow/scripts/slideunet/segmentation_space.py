"""Bytes that a segmentation will take, from some of its squares that are computed beforehand.

How far a network's probabilities compress hangs on the network and on the slide: more than twofold
(docs/reliability.md). So squares, spread over those to be computed, go through the network, are
halved as the pyramid halves them, and are stored in memory by the store's own codecs. Nothing of
that is kept: the results are the same bytes with and without it.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import zarr
from zarr.storage import MemoryStore

from slideunet.errors import SlideError
from slideunet.geometry import Window
from slideunet.inference import (
    Plan,
    empty_block,
    engine_of,
    halved,
    tissue_blocks,
    tissue_tiles,
)
from slideunet.ngff import create_level
from slideunet.shard_store import Block, Shard
from slideunet.space import (
    LEAST,
    MOST,
    SHARE,
    Estimate,
    check_space,
    free_bytes,
    need_of,
    refuse_too_much,
    spread,
)

# Fewer squares say nothing of how much they differ; more would take minutes where they are large.
FEWEST, MOST_SQUARES = 12, 256
# Sampled until two standard errors are below this share of the estimate.
WITHIN = 0.15
# Levels that are stored; of each level above them a pixel takes as much as one of the last.
LEVELS = 3
# A shard's index notes place and length of each chunk, also of those outside the image.
INDEX_BYTES = 16


def check_segmentation(plan: Plan, done: set[Shard], rows: range | None) -> None:
    """Raise UserError where the shards that are missing can't fit; log what they need.

    rows : of the shard grid, where this job computes only these, and no higher level
    """
    finest = [shard for shard in plan.store.shards(0) if rows is None or shard.row in rows]
    higher = range(1, len(plan.store.arrays) if rows is None else 1)
    shards = finest + [shard for level in higher for shard in plan.store.shards(level)]
    missing = [shard for shard in shards if shard not in done]
    squares = [w for shard in finest for w in tissue_blocks(plan, plan.store.window(shard))]
    paths = [f"{plan.store.name}/{name}" for shard in missing for name in plan.store.files(shard)]
    markers = [f"markers/{shard.key}" for shard in missing]
    engine, folder = engine_of(plan), plan.store.folder
    pixels = sum(_computed_px(plan, missing, squares))
    need = need_of(folder, paths + markers, int(pixels) * (engine.classes + 1))
    what = f"segmentation of {engine.source.path}"
    refuse_too_much(folder, need, what)
    if missing:
        scarce = free_bytes(folder) < need.bytes_most
        most = min(MOST_SQUARES, len(squares) if scarce else int(len(squares) * SHARE))
        # A slide that can't be read is told where it is segmented.
        with suppress(SlideError):
            need = replace(need, estimate=estimate(plan, done, missing, squares, most))
    check_space(folder, need, what)


def estimate(
    plan: Plan, done: set[Shard], missing: list[Shard], squares: Sequence[Window], most: int
) -> Estimate | None:
    """Bytes of the files of the shards in `missing`; None where `most` squares are too few.

    squares : the squares of the slide that are computed, also those that are done already: the
        higher levels are made of them too
    most : squares that may be looked at for it
    """
    empty = _stored(plan, _nothing(plan))
    per_px, error = _bytes_per_px(plan, done, squares, most, empty)
    if not per_px:
        return None
    total = 0.0
    for level, pixels in enumerate(_computed_px(plan, missing, squares)):
        chunks, outside = _chunks(plan, [shard for shard in missing if shard.level == level])
        total += pixels * per_px[min(level, len(per_px) - 1)]
        total += chunks * empty[0]
        total += outside * INDEX_BYTES * (engine_of(plan).classes + 1)
    return Estimate(int(total), error)


def _bytes_per_px(
    plan: Plan, done: set[Shard], squares: Sequence[Window], most: int, empty: list[int]
) -> tuple[list[float], float]:
    """Stored bytes by a pixel of level 0, 1, .., all maps together; two standard errors of them.

    What a chunk of zeros takes (`empty`, by level) is not among them. Nothing where more than
    `most` squares would be needed to say how exact it is.
    """
    if not squares:
        return [0.0], 0.0
    if most < min(FEWEST, len(squares)):
        return [], 0.0
    areas, stored, error = [], [], 0.0
    values = engine_of(plan).classes + 1
    for number in spread(len(squares)):
        square = squares[number]
        areas.append(square.height * square.width)
        stored.append(np.subtract(_stored(plan, _block(plan, done, square)), empty))
        error = _error(np.sum(stored, axis=1), np.array(areas), len(squares), values)
        if len(areas) >= most or (len(areas) >= FEWEST and error <= WITHIN):
            break
    sums = np.sum(stored, axis=0)
    return [size * 4**level / sum(areas) for level, size in enumerate(sums)], error


def _error(sizes: np.ndarray, areas: np.ndarray, whole: int, values: int) -> float:
    """Two standard errors of the ratio of sizes to areas, as a share of it (Cochran 1977, 6.4).

    Squares that all hold next to nothing (`values` a pixel, each below LEAST bytes) don't differ,
    but say little of those not seen: 3 / count of them may be full, at 95 % (the rule of three).
    """
    count = len(sizes)
    if count < 2 or count == whole:
        return 0.0
    unseen, mean = 1 - count / whole, max(sizes.mean(), 1)
    rest = sizes - sizes.sum() / areas.sum() * areas
    variance = unseen * (rest**2).sum() / (count - 1) / count
    error = 2 * variance**0.5 / mean
    if (sizes < LEAST * values * areas).all():
        error = max(error, 3 / count * unseen * MOST * values * areas.mean() / mean)
    return float(error)


def _chunk_px(plan: Plan) -> int:
    """Side of a chunk of the store: NGFF 0.4 knows no shards (ngff.create_level)."""
    return plan.block_px if plan.store.version == "0.5" else plan.store.shard_px


def _nothing(plan: Plan) -> Block:
    return empty_block(engine_of(plan).classes, Window(0, 0, plan.block_px, plan.block_px))


def _computed_px(plan: Plan, missing: list[Shard], squares: Sequence[Window]) -> list[float]:
    """Of each level, its pixels in missing shards that stand for computed ones."""
    wanted, side = set(missing), plan.store.shard_px
    found = [0.0] * len(plan.store.arrays)
    for square in squares:
        for level in range(len(found)):
            row, column = (int(at) >> level for at in (square.y, square.x))
            if Shard(level, row // side, column // side) in wanted:
                found[level] += square.height * square.width / 4**level
    return found


def _chunks(plan: Plan, shards: list[Shard]) -> tuple[int, int]:
    """Chunks of one array in these shards, and places for chunks that lie outside the image."""
    side = _chunk_px(plan)
    windows = [plan.store.window(shard) for shard in shards]
    inside = sum(-(-w.height // side) * -(-w.width // side) for w in windows)
    return inside, len(shards) * (plan.store.shard_px // side) ** 2 - inside


def _block(plan: Plan, done: set[Shard], square: Window) -> Block:
    """The square's pixels as the store has or will have them, zeros beyond the slide's edge."""
    engine, side = engine_of(plan), plan.store.shard_px
    if Shard(0, square.y // side, square.x // side) in done:
        probabilities, classes = plan.store.arrays[0]
        found = Block(probabilities[(slice(None), *square.slices())], classes[square.slices()])
    else:
        tiles = tissue_tiles(plan.tile_px, engine.depth, square, [square])
        found, _ = engine.predict(square, tiles)
    whole = _nothing(plan)
    whole.probabilities[:, : square.height, : square.width] = found.probabilities
    whole.classes[: square.height, : square.width] = found.classes
    return whole


def _stored(plan: Plan, block: Block) -> list[int]:
    """Bytes that the block takes as one chunk at levels 0, 1, .."""
    sizes = []
    while len(sizes) < LEVELS and block.classes.shape[-1]:
        maps = (("0", "CYX", block.probabilities), ("classes", "YX", block.classes))
        sizes.append(sum(_bytes_of(plan, *values) for values in maps))
        if block.classes.shape[-1] % 2:
            break
        block = halved(block)
    return sizes


def _bytes_of(plan: Plan, name: str, axes: str, values: np.ndarray) -> int:
    """Bytes of the values as an array of one chunk, without its metadata."""
    version, side = plan.store.version, values.shape[-1]
    group = zarr.create_group(MemoryStore(), zarr_format=3 if version == "0.5" else 2)
    array = create_level(group, name, values.shape, "uint8", axes, side, side, version)
    before = array.nbytes_stored()
    array[...] = values
    return array.nbytes_stored() - before
