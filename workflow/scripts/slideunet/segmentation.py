"""The job of segmenting one slide: choose the tile, resume, run the graph, say what came out."""

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from slideunet.device import choose_precision
from slideunet.durable import write_file
from slideunet.errors import SlideError, UserError
from slideunet.geometry import Window, check_tile_px
from slideunet.inference import Plan, close_engine, engine_of, tissue_blocks, tissue_tiles
from slideunet.manifest import to_json
from slideunet.ngff import create_segmentation
from slideunet.progress import Progress
from slideunet.schedule import graph, run_cluster, run_here
from slideunet.segmentation_space import check_segmentation
from slideunet.shard_store import NAME, Shard, ShardStore
from slideunet.tile_memory import Load, choose_tile_px, is_out_of_memory, limit_mb, next_smaller
from slideunet.timing import timing_of

log = logging.getLogger("unet-slides")

RUN = "run.json"


@dataclass(frozen=True)
class Request:
    """What is to be segmented and how.

    open_source, open_members, has_tissue, check_owner : see inference.Plan
    classes : names, the background first
    pixel_um : (y, x) of the output, None where unknown
    settings : config section `segment`
    mem_mb : the job's memory, None where nobody said
    stop : called often; raises where the job is to leave
    part : (k, n): of n parts the k-th (from 0), without the pyramid; None: the whole slide
    run : how the slide is computed, where that was decided before (parts.py)
    name : of the OME-Zarr folder
    scheduler : address of a dask.distributed cluster that computes; "": the threads of this process
    """

    open_source: Callable
    open_members: Callable
    classes: list[str]
    pixel_um: tuple[float, float] | None
    settings: dict
    device: torch.device
    mem_mb: int | None = None
    has_tissue: Callable[[Window], bool] | None = None
    check_owner: Callable[[], None] | None = None
    stop: Callable[[], None] = field(default=lambda: None)
    part: tuple[int, int] | None = None
    run: dict | None = None
    name: str = NAME
    scheduler: str = ""

    @property
    def slots(self) -> int:
        """Tiles computed at once."""
        return self.settings["threads"] if self.device.type == "cpu" else 1

    @property
    def in_flight(self) -> int:
        """Shards in flight: one is read or written while others compute.

        A GPU is faster than one core decodes, so there each core reads.
        """
        return self.slots + 1 if self.device.type == "cpu" else self.settings["threads"] + 2


def segment_slide(request: Request, folder: Path) -> tuple[dict, dict]:
    """Write `folder`/segmentation.ome.zarr; returns the facts for the manifest, and timings.

    What an earlier attempt left in `folder` is gone on from. Facts are the same for any number of
    threads, parts and attempts; timings are those of this attempt. Raises SlideError for content
    that can't be segmented, UserError for settings that don't fit the networks.
    """
    plan = _plan(request, folder)
    try:
        image_yx = engine_of(plan).image_yx
        _check(request, plan)
        run = request.run or _recorded(request, plan)
        while True:
            plan = replace(plan, tile_px=run["tile_px"])
            smaller = next_smaller(plan.tile_px, plan.store.shard_px, engine_of(plan).depth)
            try:
                timing = _execute(request, plan, _begin(request, plan, run))
                return _facts(request, plan, run, image_yx), timing
            except Exception as error:
                if not is_out_of_memory(error) or smaller is None:
                    raise
            log.warning("tile_px %d: out of memory; again with %d", plan.tile_px, smaller)
            run = {**run, "tile_px": smaller, "too_large_px": [*run["too_large_px"], plan.tile_px]}
    finally:
        close_engine(plan)


def _plan(request: Request, folder: Path) -> Plan:
    settings = request.settings
    precision = choose_precision(settings["precision"], request.device)
    return Plan(
        open_source=request.open_source,
        open_members=request.open_members,
        store=ShardStore(folder, settings["shard_px"], settings["ngff"], request.name),
        tile_px=0,
        block_px=settings["chunk_px"],
        device=request.device.type,
        precision=str(precision).removeprefix("torch."),
        averaging=settings["averaging"],
        slots=request.slots,
        has_tissue=request.has_tissue,
        check_owner=request.check_owner,
        key=os.urandom(8).hex(),
    )


def _check(request: Request, plan: Plan) -> None:
    """Whether slide, networks and settings fit each other: one line if not."""
    engine = engine_of(plan)
    network, source = engine.members[0][0], engine.source
    if len(source.channels) != network.channels:
        raise SlideError(
            f"{source.path}: has {len(source.channels)} channels ({', '.join(source.channels)}), "
            f"and the model was trained on {network.channels}"
        )
    if source.dtype.kind not in "uif":
        raise SlideError(f"{source.path}: pixels of type {source.dtype} can't be segmented")
    if network.classes != len(request.classes):
        raise UserError(
            f"config: classes: {len(request.classes)} names, the model has {network.classes}"
        )
    for key in ("tile_px", "chunk_px", "shard_px"):
        if request.settings[key] != "auto":
            try:
                check_tile_px(request.settings[key], engine.depth)
            except ValueError as error:
                raise UserError(f"config: segment.{key}: {error}") from None


def _recorded(request: Request, plan: Plan) -> dict:
    """How this slide is computed: as an earlier attempt has begun, else chosen now.

    An attempt with more memory must not choose anew: what is written would not fit. One on another
    device, or in another precision, must.
    """
    fresh = {"device": plan.device, "precision": plan.precision}
    try:
        earlier = json.loads((plan.store.folder / RUN).read_bytes())
    except (FileNotFoundError, ValueError):
        earlier = {}
    if {key: earlier.get(key) for key in fresh} == fresh:
        return earlier
    tile_px = request.settings["tile_px"]
    if tile_px == "auto":
        tile_px = _largest_tile(request, plan)
    return {**fresh, "tile_px": tile_px, "too_large_px": []}


def _largest_tile(request: Request, plan: Plan) -> int:
    engine = engine_of(plan)
    networks = tuple(member[0] for member in engine.members)
    shard_yx = tuple(min(plan.store.shard_px, side) for side in engine.image_yx)
    load = Load(
        networks=networks,
        itemsize=networks[0].score.weight.element_size(),
        slots=request.slots,
        shards=request.in_flight,
        shard_yx=shard_yx,
        channel_bytes=engine.channel_bytes,
    )
    memory_mb = limit_mb(request.mem_mb)
    tile_px = choose_tile_px(
        load, engine.image_yx, plan.store.shard_px, engine.depth, engine.device, memory_mb
    )
    log.info("tile_px auto: %d px for %d MB on %s", tile_px, memory_mb, plan.device)
    return tile_px


def _begin(request: Request, plan: Plan, run: dict) -> set[Shard]:
    """The store as `run` wants it, empty or resumed; returns the shards that are whole."""
    record = plan.store.folder / RUN
    content = to_json(run)
    if record.exists() and record.read_bytes() == content:
        done = plan.store.resume()
        log.info("%d shards are there already", len(done))
        return done
    record.unlink(missing_ok=True)
    for folder in (plan.store.path, plan.store.markers):
        if folder.exists():
            shutil.rmtree(folder)
    create_segmentation(
        plan.store.path,
        classes=request.classes,
        image_yx=engine_of(plan).image_yx,
        pixel_um=request.pixel_um,
        shard_px=plan.store.shard_px,
        chunk_px=plan.block_px,
        version=plan.store.version,
    )
    plan.store.markers.mkdir()
    write_file(record, content)
    return set()


def rows_of(part: tuple[int, int] | None, rows: int) -> range:
    """Rows of the shard grid that belong to the part."""
    number, parts = part or (0, 1)
    return range(rows * number // parts, rows * (number + 1) // parts)


def _execute(request: Request, plan: Plan, done: set[Shard]) -> dict:
    """Run what is missing; returns the timings of this attempt."""
    engine = engine_of(plan)
    rows = rows_of(request.part, plan.store.grid(0)[0])
    missing = [s for s in plan.store.shards(0) if s.row in rows and s not in done]
    engine.stop = request.stop
    check_segmentation(plan, done, rows if request.part else None)
    targets = graph(plan, done, rows if request.part else None)
    devices = plan.slots
    started = time.perf_counter()
    if request.scheduler:
        there = sum(shard.level == 0 for shard in done)
        bar = Progress(there, there + len(missing), "shards")
        devices *= run_cluster(plan, targets, request.scheduler, request.stop, bar.show)
    else:
        bar = Progress(0, _count_tiles(plan, engine.depth, missing), "tiles")
        engine.on_tile = _Counter(bar)
        run_here(plan, targets, request.in_flight, request.stop)
    bar.close()
    found = timing_of(_written(plan, done), devices, time.perf_counter() - started)
    log.info("%s", ", ".join(f"{key} {value}" for key, value in found.items()))
    return found


def _written(plan: Plan, done: set[Shard]) -> list[dict]:
    """Markers of the shards of all levels that this attempt has written."""
    levels = range(len(plan.store.arrays))
    shards = [shard for level in levels for shard in plan.store.shards(level) if shard not in done]
    return [marker for shard in shards if (marker := plan.store.marker(shard)) is not None]


def _count_tiles(plan: Plan, depth: int, shards: list[Shard]) -> int:
    regions = [plan.store.window(shard) for shard in shards]
    return sum(
        len(tissue_tiles(plan.tile_px, depth, region, tissue_blocks(plan, region)))
        for region in regions
    )


class _Counter:
    """Shows tiles and megapixels as the threads report them."""

    def __init__(self, bar: Progress):
        self._bar, self._lock = bar, threading.Lock()
        self._tiles = self._pixels = 0
        self._started = time.monotonic()

    def __call__(self, pixels: int) -> None:
        with self._lock:
            self._tiles += 1
            self._pixels += pixels
            rate = self._pixels / (time.monotonic() - self._started) / 1e6
            self._bar.show(self._tiles, f"{rate:.2f} Mpx/s")


def _facts(request: Request, plan: Plan, run: dict, image_yx: tuple[int, int]) -> dict:
    rows = rows_of(request.part, plan.store.grid(0)[0])
    shards = [shard for shard in plan.store.shards(0) if shard.row in rows]
    found = [plan.store.marker(shard) for shard in shards]
    pixels = sum(w.height * w.width for w in map(plan.store.window, shards))
    computed = sum(marker["computed_px"] for marker in found)
    return {
        "shape": [len(request.classes), *image_yx],
        "level_shapes": [list(maps.shape) for _, maps in plan.store.arrays],
        "pixel_um": None if request.pixel_um is None else list(request.pixel_um),
        "classes": request.classes,
        "ngff": plan.store.version,
        **run,
        "averaging": plan.averaging,
        "computed_px": computed,
        "skipped_px": pixels - computed,
        "masked_px": sum(w[2] * w[3] for marker in found for w in marker["masked"]),
    }
