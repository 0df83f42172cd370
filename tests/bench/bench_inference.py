"""Inference over slides: memory, end to end against the bare network, beside sliding windows.

    python tests/bench/bench_inference.py           # about 25 minutes on one core
    python tests/bench/bench_inference.py --quick   # about 3 minutes
    python tests/bench/bench_inference.py --peer-python peers/bin/python   # with MONAI there

The slide is computed as it is read (RGB, 8 bit, no disk); the networks have base 16, depth 4 and
random weights. Every case runs in a process of its own, one thread, kernels as in a real job;
CPU-seconds are user and system time of the work, start-up and imports left out. Cases of one
comparison take turns, and their medians are shown.

memory      peak resident memory at growing slides. To end in time only every n-th shard holds
            tissue there (the same number at each size); all shards of all levels are written.
end to end  reading, computing, encoding and writing a slide, against the network alone on the same
            tiles in memory: wall time with a second core free, and CPU time of all threads.
image       2048 x 2048 pixels, one channel. Seam error: share of labels, in parts per million,
            that differ from one pass over the whole image by the same network. MONAI needs outputs
            as large as inputs, so it runs the zero-padded variant of the same network.
"""

import argparse
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
    EveryNth,
    ProceduralSlide,
    make_network,
    request,
)

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
    """Segment a slide, and run the network alone over the same tiles in memory, in turns."""
    import torch
    from slideunet.allocator import keep_large_allocations
    from slideunet.device import choose_precision
    from slideunet.geometry import Window, input_window, tiles
    from slideunet.overlap_tile import prepare, read_mirrored, tile_scores
    from slideunet.segmentation import segment_slide

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
    request_ = request(side, side, precision, tile_px)
    network = prepare(make_network(3), device, choose_precision(precision, device))
    for values in inputs.values():  # kernels are made and memory is touched once, whatever follows
        tile_scores(network, values)
    found = {"bare_wall": [], "bare_cpu": [], "all_wall": [], "all_cpu": []}
    for _ in range(turns):
        with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as folder:
            wall, cpu = time.perf_counter(), time.process_time()
            segment_slide(request_, Path(folder))
            found["all_wall"].append(time.perf_counter() - wall)
            found["all_cpu"].append(time.process_time() - cpu)
        wall, cpu = time.perf_counter(), time.process_time()
        for window in windows:
            tile_scores(network, inputs[window.height, window.width])
        found["bare_wall"].append(time.perf_counter() - wall)
        found["bare_cpu"].append(time.process_time() - cpu)
    return {key: median(values) for key, values in found.items()}


def image() -> np.ndarray:
    """One channel, scaled to 0 .. 1, (1, SIDE_PX, SIDE_PX) float32."""
    return ProceduralSlide(SIDE_PX, SIDE_PX).read(0, 0, SIDE_PX, SIDE_PX)[:1] / np.float32(255)


def case_image(how: str, precision: str) -> dict:
    """CPU-seconds of the single image, the better of two runs, and the seam error."""
    import torch
    from slideunet.allocator import keep_large_allocations
    from slideunet.device import PRECISIONS
    from slideunet.geometry import Window
    from slideunet.overlap_tile import predict_region, prepare

    torch.set_num_threads(1)
    if how == "ours":
        keep_large_allocations()
    pixels = image()
    padded = how.startswith("monai")
    network = make_network(1, padded)
    whole = Window(0, 0, SIDE_PX, SIDE_PX)

    def read(y, x, height, width):
        return pixels[:, y : y + height, x : x + width]

    def ours(net, tile_px):
        return predict_region(net, read, (SIDE_PX, SIDE_PX), whole, tile_px)

    if padded:
        with torch.inference_mode():
            reference = network(torch.from_numpy(pixels)[None])[0].argmax(0)
    else:
        reference = ours(network.to(memory_format=torch.channels_last), SIDE_PX).argmax(0)
    network = network.to(PRECISIONS[precision])
    if how == "ours":
        network = prepare(network, torch.device("cpu"), PRECISIONS[precision])
        run = partial(ours, network, 1024)
    elif how == "naive":
        run = partial(naive, network, pixels)
    else:
        overlap, mode = (0.5, "gaussian") if how == "monai 0.5" else (0.25, "constant")
        run = partial(monai, network, pixels, overlap, mode)
    seconds = []
    for _ in range(2):
        started = time.process_time()
        labels = run().argmax(0)
        seconds.append(time.process_time() - started)
    differing = float((labels != reference).float().mean()) * 1e6
    return {"cpu_s": min(seconds), "seam_ppm": differing}


def naive(network, pixels: np.ndarray):
    """The paper's tile, 572 -> 388, step by step from the corner; no other care taken."""
    import torch

    height, width = pixels.shape[1:]
    steps = -(-height // 388)
    around = 92, steps * 388 - height + 92
    padded = torch.from_numpy(np.pad(pixels, ((0, 0), around, around), mode="reflect"))
    padded = padded.to(network.score.weight.dtype)
    out = torch.empty(2, steps * 388, steps * 388)
    with torch.inference_mode():
        for y in range(0, steps * 388, 388):
            for x in range(0, steps * 388, 388):
                scores = network(padded[None, :, y : y + 572, x : x + 572])[0]
                out[:, y : y + 388, x : x + 388] = torch.softmax(scores.float(), 0)
    return out[:, :height, :width]


def monai(network, pixels: np.ndarray, overlap: float, mode: str):
    """MONAI's sliding windows of 512 px."""
    import torch
    from monai.inferers import sliding_window_inference

    values = torch.from_numpy(pixels)[None].to(network.score.weight.dtype)
    with torch.inference_mode():
        scores = sliding_window_inference(
            values, (512, 512), 1, network, overlap=overlap, mode=mode
        )
        return torch.softmax(scores[0].float(), 0)


CASES = {"memory": case_memory, "end_to_end": case_end_to_end, "image": case_image}


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
    shards = 4 if quick else 16
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
    print(f"\nend to end, {side} x {side} px, tiles of 1024 px")
    for precision in ("float32", "bfloat16"):
        found = in_process(sys.executable, "end_to_end", side, precision, 1024, 1 if quick else 3)
        for clock in ("wall", "cpu"):
            bare, whole = found[f"bare_{clock}"], found[f"all_{clock}"]
            print(
                f"  {precision:9s} {clock:4s}  network alone {bare:6.1f} s, all {whole:6.1f} s: "
                f"ratio {bare / whole:.3f}  ({side**2 / whole / 1e6:.2f} Mpx/s)"
            )


def report_image(peer_python: str, rounds: int) -> None:
    """One table of ours and of the peers."""
    cases = [("ours", "float32"), ("ours", "bfloat16"), ("naive", "float32")]
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
        print(
            f"  {how:11s} {precision:9s} {seconds:6.2f} s  = {seconds / ours['float32']:5.2f} x "
            f"ours float32, {seconds / ours['bfloat16']:5.2f} x ours bfloat16;  "
            f"labels off {found[0]['seam_ppm']:.0f} ppm"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller slides, one round")
    parser.add_argument("--peer-python", default=sys.executable, help="where MONAI is installed")
    parser.add_argument("--only", choices=CASES, help="one of the three tables")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--arguments", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(CASES[options.case](*json.loads(options.arguments))))
        return
    if options.only in (None, "image"):
        report_image(options.peer_python, 1 if options.quick else 3)
    if options.only in (None, "end_to_end"):
        report_end_to_end(options.quick)
    if options.only in (None, "memory"):
        report_memory(options.quick)


if __name__ == "__main__":
    main()
