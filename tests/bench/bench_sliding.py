"""What one pixel costs: pixel by pixel through a patch each, and as a fully convolutional network.

The paper's introduction argues with it. Compared, one thread, float32 and bfloat16, CPU-seconds
per pixel, medians over interleaved rounds:

- the patch network of the ablation (sliding_window.py), patch by patch: a sample of pixels
- the same network, all patches of a tile at once
- the U-Net of the EM experiment for one pixel at a time: the smallest tile it admits, one pixel of
  it used
- the U-Net, overlap-tile over a section of 512 x 512 px
- a training step of either network, at the ablation's batch

    .venv/bin/python tests/bench/bench_sliding.py
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "workflow" / "scripts"))

import numpy as np
import torch
from slideunet.geometry import input_px_for
from slideunet.network import build, initialise
from slideunet.overlap_tile import prepare
from slideunet.sliding_window import PATCH_PX
from slideunet.whole_image import predict_image

SECTION_PX = 512
SAMPLE = 64  # patches at a time, and sampled pixels of each round
UNET = {"depth": 4, "base_channels": 16, "dropout": 0.5}
PATCHES = {"depth": 3, "base_channels": 48, "dropout": 0.5, "sliding_window": True}
# The ablation's tile and batch (workflow/experiments/ablations.yaml).
TRAIN_PX, BATCH = 380, 32


def cpu_s(run: Callable[[], object]) -> float:
    """CPU-seconds of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def network_of(settings: dict, precision: torch.dtype):
    """A network with drawn weights, as inference wants it."""
    network = build(settings, channels=1, classes=2)
    initialise(network, torch.Generator().manual_seed(0))
    return prepare(network, torch.device("cpu"), precision)


def inference_runs(precision: torch.dtype) -> dict[str, tuple[Callable, int]]:
    """What to run and how many pixels it answers."""
    patches, unet = network_of(PATCHES, precision), network_of(UNET, precision)
    section = np.random.default_rng(0).random((1, SECTION_PX, SECTION_PX), dtype=np.float32)
    one_px = input_px_for(1, UNET["depth"])

    def by_patch(network, side: int, batch: int) -> Callable:
        x = torch.rand(batch, 1, side, side).to(dtype=precision, memory_format=torch.channels_last)
        return lambda: network(x)

    return {
        "patch network, patch by patch": (by_patch(patches, PATCH_PX, SAMPLE), SAMPLE),
        "patch network, all at once": (lambda: predict_image(patches, section), SECTION_PX**2),
        "U-Net, pixel by pixel": (by_patch(unet, one_px, 8), 8),
        "U-Net, overlap-tile": (lambda: predict_image(unet, section), SECTION_PX**2),
    }


def step(settings: dict, batch: int, side: int) -> Callable:
    """Forward and backward pass of a training step, bfloat16."""
    network = build(settings, channels=1, classes=2).to(memory_format=torch.channels_last)
    x = torch.rand(batch, 1, side, side).to(memory_format=torch.channels_last)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            scores = network(x)
        scores.float().square().mean().backward()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print("network and way\tprecision\tCPU-us per pixel\tCPU-s per 512 x 512 px\ttimes the U-Net's")
    for precision in (torch.float32, torch.bfloat16):
        runs = inference_runs(precision)
        times: dict[str, list[float]] = {name: [] for name in runs}
        with torch.inference_mode():
            for turn in range(rounds + 1):
                for name, (run, pixels) in runs.items():
                    taken = cpu_s(run) / pixels
                    if turn:  # the first round warms up
                        times[name].append(taken)
        cost = {name: statistics.median(values) for name, values in times.items()}
        for name, value in cost.items():
            ratio = value / cost["U-Net, overlap-tile"]
            kind = str(precision).removeprefix("torch.")
            print(f"{name}\t{kind}\t{value * 1e6:.2f}\t{value * SECTION_PX**2:.2f}\t{ratio:.1f}")
    steps = {"U-Net": step(UNET, 1, TRAIN_PX), "patch network": step(PATCHES, BATCH, PATCH_PX)}
    taken = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, run in steps.items():
            seconds = cpu_s(run)
            if turn:
                taken[name].append(seconds)
    for name, values in taken.items():
        print(f"{name}, one training step\tbfloat16\t{statistics.median(values):.3f} CPU-s")


if __name__ == "__main__":
    main()
