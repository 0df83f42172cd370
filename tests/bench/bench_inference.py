"""Inference over slides: sliding windows of others, the bare network, memory, tissue.

    make bench-inference                          # all tables with all peers: 25 minutes, one core
    make bench-inference BENCH="--quick"          # smaller, and each case once: 8 minutes
    make bench-inference BENCH="--only image"     # one of: image, end_to_end, memory, tissue

Networks have base 16, depth 4 and random weights. Every case runs in a process of its own, one
thread, kernels as in a real job; CPU-seconds are user and system time of the work, start-up and
imports left out. Cases of one table take turns, and their medians are shown: on a busy machine the
ratios hold where the seconds do not.

image       2048 x 2048 pixels, one channel. Seam error: share of labels, in parts per million,
            that differ from one pass over the whole image by the same network in float32. MONAI
            needs outputs as large as inputs, so it runs the zero-padded variant of the network.
            Ours takes the tile that `auto` takes in a job of 4000 MB, or the whole image at once.
end to end  reading a tiled JPEG file, computing, encoding and writing, against the network alone
            on the same tiles in memory: wall time, in which a second core, where there is one,
            reads and writes while the first computes, and CPU time of all threads and processes.
            Shards of 2048 px, so that a slide that is computed within a minute has 16 of them.
memory      peak resident memory at growing slides, whose pixels are computed as they are read (RGB,
            8 bit, no disk). Of each slide 8 shards hold tissue and are computed; all shards of
            all levels are written.
tissue      pixels of such a slide that are read beyond tissue squares and their context.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from procedural_slide import (
    DEPTH,
    MEM_MB,
    SHARD_PX,
    Disc,
    EveryNth,
    ProceduralSlide,
    make_network,
    opened,
    request,
    write_jpeg,
)
from sliding import dask_overlap, monai, naive

SIDE_PX = 2048  # of the single image


def case_memory(side: int, shards: int, precision: str) -> dict:
    """Segment a square slide; peak memory of the process."""
    import resource

    from slideunet.segmentation import segment_slide

    tissue = EveryNth(side, side, shards)
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as folder:
        started = time.perf_counter()
        facts, timing = segment_slide(request(side, side, precision, "auto", tissue), Path(folder))
        wall_s = time.perf_counter() - started
        files = sum(1 for p in (Path(folder) / "segmentation.ome.zarr").rglob("*") if p.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "peak_mb": peak, "tile_px": facts["tile_px"], "files": files, "wall_s": wall_s,
        "computed_px": facts["computed_px"], "busy": timing["device_busy_percent"],
    }  # fmt: skip


def case_end_to_end(side: int, precision: str, tile_px: int, turns: int) -> dict:
    """Segment a tiled JPEG file, and run the network alone over its tiles in memory, in turns."""
    import torch
    from slideunet.allocator import keep_large_allocations
    from slideunet.device import choose_precision
    from slideunet.geometry import Window, input_window, tiles
    from slideunet.overlap_tile import prepare, read_mirrored, tile_scores
    from slideunet.segmentation import segment_slide
    from slideunet.slide_source import open_source

    keep_large_allocations()
    torch.set_num_threads(1)
    device = torch.device("cpu")
    slide = ProceduralSlide(side, side)
    windows = [
        input_window(tile, DEPTH) for tile in tiles(Window(0, 0, side, side), tile_px, DEPTH)
    ]
    inputs = {}  # one input of each shape: what counts is their number
    for window in windows:
        shape = window.height, window.width
        if shape not in inputs:
            pixels = read_mirrored(slide.read, (side, side), window)
            inputs[shape] = torch.from_numpy(pixels / np.float32(255))
    network = prepare(make_network(3), device, choose_precision(precision, device))
    for values in inputs.values():  # kernels are made and memory is touched once, whatever follows
        tile_scores(network, values)
    found = {"bare_wall": [], "bare_cpu": [], "all_wall": [], "all_cpu": [], "busy": []}
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as folder:
        file = Path(folder) / "slide.tif"
        write_jpeg(file, slide)
        opener = partial(open_source, str(file), None, None, False)
        request_ = request(side, side, precision, tile_px, open_source=opener, shard_px=2048)
        for turn in range(turns):
            wall, cpu = time.perf_counter(), cpu_seconds()
            (Path(folder) / str(turn)).mkdir()
            _, timing = segment_slide(request_, Path(folder) / str(turn))
            found["all_wall"].append(time.perf_counter() - wall)
            found["all_cpu"].append(cpu_seconds() - cpu)
            found["busy"].append(timing["device_busy_percent"])
            wall, cpu = time.perf_counter(), cpu_seconds()
            for window in windows:
                tile_scores(network, inputs[window.height, window.width])
            found["bare_wall"].append(time.perf_counter() - wall)
            found["bare_cpu"].append(cpu_seconds() - cpu)
    return {key: median(values) for key, values in found.items()}


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    import resource

    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def case_tissue(side: int) -> dict:
    """Segment a disc of tissue with a narrow network, and count what was read where."""
    from slideunet.geometry import context_px
    from slideunet.segmentation import segment_slide

    slide, disc = ProceduralSlide(side, side), Disc(side)
    reads = []
    read = slide.read

    def noted(*window):
        reads.append(window)
        return read(*window)

    slide.read = noted
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as folder:
        request_ = request(side, side, "auto", 1024, disc, partial(opened, slide), base=2)
        facts, _ = segment_slide(request_, Path(folder))
    # On a grid of 4 px, on which squares lie; the context is rounded up to it.
    touched, allowed = (np.zeros((side // 4, side // 4), bool) for _ in range(2))
    for y, x, height, width in reads:
        touched[y // 4 : -(-(y + height) // 4), x // 4 : -(-(x + width) // 4)] = True
    reach = context_px(DEPTH) + 4
    for y in range(0, side, 512):
        for x in range(0, side, 512):
            if disc.square(y, x):
                rows = slice(max(0, y - reach) // 4, (y + 512 + reach) // 4)
                allowed[rows, max(0, x - reach) // 4 : (x + 512 + reach) // 4] = True
    return {
        "computed": facts["computed_px"] / side**2, "read": float(touched.mean()),
        "outside_px": 16 * int((touched & ~allowed).sum()),
    }  # fmt: skip


def image() -> np.ndarray:
    """One channel, scaled to 0 .. 1, (1, SIDE_PX, SIDE_PX) float32."""
    return ProceduralSlide(SIDE_PX, SIDE_PX).read(0, 0, SIDE_PX, SIDE_PX)[:1] / np.float32(255)


def case_image(how: str, precision: str) -> dict:
    """CPU-seconds of the single image, the least of three runs, and the seam error."""
    import torch
    from slideunet.allocator import keep_large_allocations
    from slideunet.device import PRECISIONS
    from slideunet.geometry import Window
    from slideunet.overlap_tile import predict_region, prepare

    torch.set_num_threads(1)
    if how.startswith("ours"):
        keep_large_allocations()
    pixels = image()
    padded = how.startswith("monai")
    network = make_network(1, padded)
    whole = Window(0, 0, SIDE_PX, SIDE_PX)

    def read(y, x, height, width):
        return pixels[:, y : y + height, x : x + width]

    def ours(net, tile_px):
        return predict_region(net, read, (SIDE_PX, SIDE_PX), whole, tile_px)

    precise = network.to(memory_format=torch.channels_last) if not padded else network
    network = copy.deepcopy(network).to(PRECISIONS[precision])
    tile_px = 0
    if how.startswith("ours"):
        network = prepare(network, torch.device("cpu"), PRECISIONS[precision])
        tile_px = SIDE_PX if how == "ours, whole" else auto_tile_px(network)
        run = partial(ours, network, tile_px)
    elif how == "naive":
        run = partial(naive, network, pixels)
    elif how == "map_overlap":
        run = partial(dask_overlap, network, pixels)
    else:
        overlap, mode = (0.5, "gaussian") if how == "monai 0.5" else (0.25, "constant")
        run = partial(monai, network, pixels, overlap, mode)
    seconds = []
    for _ in range(3):
        started = time.process_time()
        labels = run().argmax(0)
        seconds.append(time.process_time() - started)
    if padded:
        with torch.inference_mode():
            reference = precise(torch.from_numpy(pixels)[None])[0].argmax(0)
    else:
        reference = ours(precise, SIDE_PX).argmax(0)  # plain PyTorch, one tile
    differing = float((labels != reference).float().mean()) * 1e6
    return {"cpu_s": min(seconds), "seam_ppm": differing, "tile_px": tile_px}


def auto_tile_px(network) -> int:
    """What `tile_px: auto` takes for the image in a job of MEM_MB."""
    import torch
    from slideunet.tile_memory import Load, choose_tile_px

    image_yx = (SIDE_PX, SIDE_PX)
    itemsize = network.score.weight.element_size()
    load = Load((network,), itemsize, slots=1, shards=2, shard_yx=image_yx, channel_bytes=4)
    return choose_tile_px(load, image_yx, SHARD_PX, DEPTH, torch.device("cpu"), MEM_MB)


CASES = {
    "image": case_image,
    "end_to_end": case_end_to_end,
    "memory": case_memory,
    "tissue": case_tissue,
}


def in_process(python: str, case: str, *arguments: object) -> dict | None:
    """Run one case in a process of its own; None where its package is missing."""
    command = [python, __file__, "--case", case, "--arguments", json.dumps(arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    if "No module named 'monai'" in done.stderr:
        return None
    raise SystemExit(done.stderr)


def report_memory(quick: bool) -> None:
    """Sides of 1, 4 and 16 gigapixels, or a quarter of that each."""
    sides = [16384, 32768, 65536] if quick else [32768, 65536, 131072]
    shards = 4 if quick else 8
    print(f"\nmemory, {shards} shards of {SHARD_PX} px computed, auto for {MEM_MB} MB")
    for precision in ("bfloat16", "float32"):
        for side in sides if precision == "bfloat16" else sides[:1]:
            found = in_process(sys.executable, "memory", side, shards, precision)
            print(
                f"  {side**2 / 1e9:6.2f} gigapixels  {precision:9s} tile {found['tile_px']:5d}  "
                f"peak {found['peak_mb']:6.0f} MB  {found['files']:5d} files  "
                f"device busy {found['busy']:.0f} %  {found['wall_s']:.0f} s"
            )


def report_end_to_end(quick: bool) -> None:
    """Ratio of the bare network's time to all of it."""
    side = SHARD_PX if quick else 2 * SHARD_PX
    print(f"\nend to end, a tiled JPEG file of {side} x {side} px, tiles of 1024 px")
    for precision in ("float32", "bfloat16"):
        found = in_process(sys.executable, "end_to_end", side, precision, 1024, 1 if quick else 2)
        print(f"  {precision:9s} device busy {found['busy']:.1f} %")
        for clock in ("wall", "cpu"):
            bare, whole = found[f"bare_{clock}"], found[f"all_{clock}"]
            print(
                f"  {precision:9s} {clock:4s}  network alone {bare:6.1f} s, all {whole:6.1f} s: "
                f"ratio {bare / whole:.3f}  ({side**2 / whole / 1e6:.2f} Mpx/s)"
            )


def report_tissue(quick: bool) -> None:
    side = SHARD_PX if quick else 4 * SHARD_PX
    found = in_process(sys.executable, "tissue", side)
    print(f"\ntissue, a disc on a slide of {side} x {side} px, tiles of 1024 px")
    print(
        f"  computed {100 * found['computed']:.1f} %, read {100 * found['read']:.1f} %, "
        f"read beyond tissue squares and their context: {found['outside_px']} px"
    )


def report_image(peer_python: str, rounds: int) -> None:
    """One table of ours and of the peers."""
    cases = [(how, p) for how in ("ours", "ours, whole") for p in ("float32", "bfloat16")]
    cases += [("naive", "float32"), ("map_overlap", "float32")]
    cases += [(how, p) for how in ("monai 0.5", "monai 0.25") for p in ("float32", "bfloat16")]
    results: dict[tuple, list] = {case: [] for case in cases}
    for _ in range(rounds):
        for how, precision in cases:
            python = peer_python if how.startswith("monai") else sys.executable
            found = in_process(python, "image", how, precision)
            if found is not None:
                results[how, precision].append(found)
    print(f"\nimage of {SIDE_PX} x {SIDE_PX} px, CPU-seconds of one thread")
    ours = {p: median(r["cpu_s"] for r in results["ours", p]) for p in ("float32", "bfloat16")}
    for (how, precision), found in results.items():
        if not found:
            print(f"  {how:11s} {precision:9s} not installed here: see --peer-python")
            continue
        seconds = median(r["cpu_s"] for r in found)
        tile = f", tiles of {found[0]['tile_px']} px" if found[0]["tile_px"] else ""
        print(
            f"  {how:11s} {precision:9s} {seconds:6.2f} s  = {seconds / ours['float32']:5.2f} x "
            f"ours float32, {seconds / ours['bfloat16']:5.2f} x ours bfloat16;  "
            f"labels off {found[0]['seam_ppm']:.0f} ppm{tile}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller slides, one round")
    parser.add_argument("--peer-python", default=sys.executable, help="where MONAI is installed")
    parser.add_argument("--only", choices=CASES, help="one of the tables")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--arguments", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(CASES[options.case](*json.loads(options.arguments))))
        return
    if options.only in (None, "image"):
        report_image(options.peer_python, 1 if options.quick else 2)
    if options.only in (None, "end_to_end"):
        report_end_to_end(options.quick)
    if options.only in (None, "memory"):
        report_memory(options.quick)
    if options.only in (None, "tissue"):
        report_tissue(options.quick)


if __name__ == "__main__":
    main()
