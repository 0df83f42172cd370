"""A whole slide through the network: dask over shards, one task for each, into OME-Zarr.

The graph is a tree. Its leaves are the shards of level 0, each computed and written by one task,
which hands on its pixels at half the size; a shard of level 1 is put together from four of them,
written, and hands on its half; and so on. Dask works depth first, so few halves are kept. A shard
that an earlier attempt has written is read back where its parent needs it, and not even that where
the parent is there too.
"""

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from slideunet.allocator import keep_large_allocations
from slideunet.engine import Engine, Member, Source
from slideunet.geometry import Window, blocks, cover, intersection, tiles
from slideunet.ngff import UNREADABLE, halve_mean, halve_mode
from slideunet.shard_store import Block, Shard, ShardStore


@dataclass(frozen=True)
class Plan:
    """What every process needs to do any shard of a slide; picklable, for dask.distributed.

    open_source : opens the slide at the models' pixel size, a context manager
    open_members : loads the networks, float32 on the CPU, with their scaling
    store : where to write
    tile_px : step between tile origins, a multiple of 2^depth of the deepest network
    block_px : pixels are computed in squares of this side wherever `has_tissue` of the square
    has_tissue : asked with windows of the slide at the models' pixel size; None: everywhere
    check_owner : raises where this job has lost the work folder; asked before each shard
    """

    open_source: Callable[[], AbstractContextManager[Source]]
    open_members: Callable[[], list[Member]]
    store: ShardStore
    tile_px: int
    block_px: int
    device: str = "cpu"
    precision: str = "float32"
    averaging: str = "none"
    slots: int = 1
    has_tissue: Callable[[Window], bool] | None = None
    check_owner: Callable[[], None] | None = None
    key: str = ""


# Engines of this process by the plan's key: threads of one process share slide and networks.
_engines: dict[str, tuple[Engine, AbstractContextManager]] = {}
_engines_lock = threading.Lock()


def engine_of(plan: Plan) -> Engine:
    """This process' engine for the plan, made at the first call."""
    import torch

    with _engines_lock:
        if plan.key not in _engines:
            if plan.device == "cpu":
                keep_large_allocations()
            opened = plan.open_source()
            engine = Engine(
                opened.__enter__(),
                plan.open_members(),
                device=torch.device(plan.device),
                precision=getattr(torch, plan.precision),
                averaging=plan.averaging,
                slots=plan.slots,
            )
            _engines[plan.key] = engine, opened
        return _engines[plan.key][0]


def close_engine(plan: Plan) -> None:
    """Close the slide and drop the networks, if this process has opened them."""
    with _engines_lock:
        _, opened = _engines.pop(plan.key, (None, None))
    if opened is not None:
        opened.__exit__(None, None, None)


def tissue_blocks(plan: Plan, region: Window) -> list[Window]:
    """The squares of a shard that are computed."""
    return [
        block
        for block in blocks(region, plan.block_px)
        if plan.has_tissue is None or plan.has_tissue(block)
    ]


def tissue_tiles(tile_px: int, depth: int, region: Window, wanted: list[Window]) -> list[Window]:
    """The tiles of a shard, each cut to windows of the wanted squares in it; no pixel beside them.

    Squares and tiles begin on the pooling grid, so their windows do too.
    """
    found = []
    for tile in tiles(region, tile_px, depth):
        parts = [part for block in wanted if (part := intersection(block, tile))]
        if parts:
            found += cover(parts)
    return found


def segment_shard(plan: Plan, shard: Shard) -> Block:
    """Task: read, compute and write a shard of level 0; returns it at half the size."""
    engine = engine_of(plan)
    engine.stop()
    region = plan.store.window(shard)
    wanted = tissue_blocks(plan, region)
    found = {"computed_px": sum(w.height * w.width for w in wanted), "masked": [], "seconds": {}}
    if not wanted:
        block = empty_block(engine.classes, region)
    else:
        tiles_px = tissue_tiles(plan.tile_px, engine.depth, region, wanted)
        block, seconds = engine.predict(region, tiles_px)
        masked = without_unreadable(block, region, wanted, engine.source.unreadable())
        found["masked"] = [list(window) for window in masked]
        found["seconds"] = vars(seconds)
    return write_and_halve(plan, shard, block, found)


def join_shard(plan: Plan, shard: Shard, children: list[Shard], parts: list[Block]) -> Block:
    """Task: write a shard of a higher level from its children, the halved shards below it."""
    region = plan.store.window(shard)
    block = empty_block(len(parts[0].probabilities), region)
    for child, part in zip(children, parts, strict=True):
        y, x = (child.row % 2, child.column % 2)
        half = plan.store.shard_px // 2
        where = Window(y * half, x * half, *part.classes.shape).slices()
        block.probabilities[(slice(None), *where)] = part.probabilities
        block.classes[where] = part.classes
    return write_and_halve(plan, shard, block, {})


def read_shard(plan: Plan, shard: Shard) -> Block:
    """Task: a shard that is there already, at half the size."""
    return halved(plan.store.read(shard))


def write_and_halve(plan: Plan, shard: Shard, block: Block, found: dict) -> Block:
    """Write a shard unless another job has taken over, and return it at half the size."""
    if plan.check_owner is not None:
        plan.check_owner()
    started = time.perf_counter()
    half = halved(block)
    files = plan.store.write(shard, block)
    found["seconds"] = {**found.get("seconds", {}), "write": time.perf_counter() - started}
    plan.store.mark(shard, files, found)
    return half


def halved(block: Block) -> Block:
    """Probabilities by their mean, classes by the most frequent."""
    return Block(halve_mean(block.probabilities), halve_mode(block.classes))


def empty_block(classes: int, region: Window) -> Block:
    """Nothing computed: all 0."""
    shape = (region.height, region.width)
    return Block(np.zeros((classes, *shape), np.uint8), np.zeros(shape, np.uint8))


def without_unreadable(
    block: Block, region: Window, wanted: list[Window], unreadable: Iterable[Window]
) -> list[Window]:
    """Set probability 0 and class 255 where the slide did not decode; returns these windows.

    Of the wanted squares only, which this shard has read itself: what lies elsewhere may have been
    met by the reads of other shards, and would depend on their order.
    """
    parts = [part for w in set(unreadable) for b in wanted if (part := intersection(w, b))]
    windows = cover(parts) if parts else []
    for window in windows:
        where = window.slices((region.y, region.x))
        block.probabilities[(slice(None), *where)] = 0
        block.classes[where] = UNREADABLE
    return windows
