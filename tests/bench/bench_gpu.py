"""Inference on a GPU: 512 x 512 at once, the share of the device's matrix rate, how busy it is.

    make bench-gpu                                # minutes, on a machine with an NVIDIA GPU

512       the paper's network (base 64, depth 4) from an image in memory to its class map in memory
rate      operations a second of that network in bfloat16 on one tile, against the device's own rate
          for a product of two bfloat16 matrices of 8192 x 8192, measured in the same run
busy      share of the time in which the device computes while a slide that is served from memory is
          segmented and written, and megapixels a second
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from procedural_slide import DEPTH, ProceduralSlide, make_network, request

PAPER_BASE = 64
MATRIX = 8192


def seconds_of(work, repeats: int = 20) -> float:
    """Median time of `work`, the device's queue emptied before and after; first calls left out."""
    import torch

    found = []
    for number in range(repeats + 3):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        if number >= 3:
            found.append(time.perf_counter() - started)
    return median(found)


def prepared(device, precision):
    """The paper's network, ready for inference, for one channel."""
    from slideunet.overlap_tile import prepare

    return prepare(make_network(1, base=PAPER_BASE), device, precision)


def small_image(device) -> None:
    """From pixels to classes, both in the CPU's memory."""
    import torch
    from slideunet.geometry import Window
    from slideunet.overlap_tile import predict_region

    image = ProceduralSlide(512, 512).read(0, 0, 512, 512)[:1] / np.float32(255)

    def read(y, x, height, width):
        return image[:, y : y + height, x : x + width]

    for precision in (torch.float32, torch.bfloat16):
        network = prepared(device, precision)
        work = lambda net=network: predict_region(  # noqa: E731
            net, read, (512, 512), Window(0, 0, 512, 512), 512
        ).argmax(0)
        print(f"512 x 512, base {PAPER_BASE}, {precision}: {1000 * seconds_of(work):.1f} ms")


def matrix_rate(device) -> None:
    """Share of the measured bf16 matrix rate."""
    import torch
    from slideunet.geometry import input_px_for
    from torch.utils.flop_counter import FlopCounterMode

    values = torch.randn(MATRIX, MATRIX, device=device, dtype=torch.bfloat16)
    rate = 2 * MATRIX**3 / seconds_of(lambda: values @ values)
    network = prepared(device, torch.bfloat16)
    side = input_px_for(2048, DEPTH)
    tile = torch.rand(1, 1, side, side, device=device, dtype=torch.bfloat16)
    tile = tile.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            network(tile)
        found = counter.get_total_flops() / seconds_of(lambda: network(tile))
    print(
        f"base {PAPER_BASE}, bfloat16, tile of 2048 px: {found / 1e12:.0f} TFLOP/s, "
        f"{100 * found / rate:.0f} % of a matrix product's {rate / 1e12:.0f} TFLOP/s"
    )


def busy(device, side: int, threads: int) -> None:
    """A slide from memory, segmented and written."""
    from slideunet.segmentation import segment_slide

    for base in (16, PAPER_BASE):
        asked = request(side, side, "bfloat16", "auto", base=base)
        settings = {**asked.settings, "threads": threads}
        asked = dataclasses.replace(asked, device=device, settings=settings)
        with tempfile.TemporaryDirectory() as folder:
            facts, timing = segment_slide(asked, Path(folder))
        print(
            f"base {base}, {side} x {side} px, tiles of {facts['tile_px']} px: device busy "
            f"{timing['device_busy_percent']} %, {timing['mpx_per_s']} Mpx/s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=32768, help="of the slide, px")
    parser.add_argument("--threads", type=int, default=8, help="CPU threads that read and write")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("no GPU here: nothing was measured")
    device = torch.device("cuda")
    print(torch.cuda.get_device_name(device), "torch", torch.__version__)
    small_image(device)
    matrix_rate(device)
    busy(device, options.side, options.threads)


if __name__ == "__main__":
    main()
