"""A whole image by overlapping tiles, beside sliding windows of others."""

import copy
from functools import partial
from pathlib import Path

import numpy as np
from turns import Prepared, Program, Stage

SIDE_PX = 1024
_HERE = "stages.image"


def stages() -> list[Stage]:
    """Seams and larger images: bench_inference.py."""
    found = []
    for precision in ("float32", "bfloat16"):
        asked = {"precision": precision}
        programs = [
            Program("ours", "ours", f"{_HERE}:ours", asked),
            Program(
                "peer",
                "MONAI, 512 px, overlap 0.5, Gaussian",
                f"{_HERE}:monai_windows",
                {**asked, "overlap": 0.5, "mode": "gaussian"},
            ),
            Program(
                "peer",
                "MONAI, overlap 0.25, constant",
                f"{_HERE}:monai_windows",
                {**asked, "overlap": 0.25, "mode": "constant"},
            ),
            Program(
                "limit", "our network's pass over the image's one tile", f"{_HERE}:bare", asked
            ),
        ]
        if precision == "float32":
            programs[1:1] = [
                Program("peer", "388-step loop", f"{_HERE}:loop"),
                Program("peer", "dask map_overlap", f"{_HERE}:overlap"),
            ]
        found.append(Stage(f"image of {SIDE_PX} px, base 16, {precision}", "CPU-ms/Mpx", programs))
    return found


def _pixels() -> np.ndarray:
    """(1, SIDE_PX, SIDE_PX) float32."""
    from procedural_slide import ProceduralSlide

    return ProceduralSlide(SIDE_PX, SIDE_PX).read(0, 0, SIDE_PX, SIDE_PX)[:1] / np.float32(255)


def _mpx() -> float:
    return SIDE_PX**2 / 1e6


def _prepared(precision: str):
    import torch
    from procedural_slide import make_network
    from slideunet.allocator import keep_large_allocations
    from slideunet.overlap_tile import prepare

    torch.set_num_threads(1)
    keep_large_allocations()
    return prepare(make_network(1), torch.device("cpu"), getattr(torch, precision))


def ours(folder: Path, precision: str) -> Prepared:
    """From pixels to probabilities; the image is one tile."""
    from slideunet.geometry import Window
    from slideunet.overlap_tile import predict_region

    network, pixels = _prepared(precision), _pixels()
    whole = Window(0, 0, SIDE_PX, SIDE_PX)

    def read(y, x, height, width):
        return pixels[:, y : y + height, x : x + width]

    return partial(predict_region, network, read, (SIDE_PX, SIDE_PX), whole, SIDE_PX), _mpx()


def bare(folder: Path, precision: str) -> Prepared:
    """The network alone on that tile."""
    import torch
    from slideunet.geometry import input_px_for
    from slideunet.overlap_tile import tile_scores

    network = _prepared(precision)
    side = input_px_for(SIDE_PX, network.depth)
    tile = torch.rand(1, side, side)
    return lambda: tile_scores(network, tile), _mpx()


def _peer(padded: bool, precision: str):
    import torch
    from procedural_slide import make_network

    torch.set_num_threads(1)
    return copy.deepcopy(make_network(1, padded)).to(getattr(torch, precision))


def loop(folder: Path) -> Prepared:
    from sliding import naive

    return partial(naive, _peer(False, "float32"), _pixels()), _mpx()


def overlap(folder: Path) -> Prepared:
    from sliding import dask_overlap

    return partial(dask_overlap, _peer(False, "float32"), _pixels()), _mpx()


def monai_windows(folder: Path, precision: str, overlap: float, mode: str) -> Prepared:
    import monai.inferers
    from sliding import monai

    return partial(monai, _peer(True, precision), _pixels(), overlap, mode), _mpx()
