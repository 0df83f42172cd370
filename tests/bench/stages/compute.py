"""What one core can do: products of matrices, one large convolution, the network's forward pass."""

import copy
from pathlib import Path

from turns import Prepared, Program, Stage

PRECISIONS = ("float32", "bfloat16")
MATRIX = 1536
LAYER_CHANNELS, LAYER_PX = 64, 386
FORWARD = {64: 572, 16: 956}  # base channels -> side of the input tile
_HERE = "stages.compute"


def stages() -> list[Stage]:
    """The ceiling first, then what should reach it."""
    found = [
        Stage(
            f"one 3 x 3 convolution, {LAYER_CHANNELS} channels, {LAYER_PX} px, {precision}",
            "GFLOP/s",
            [
                Program(
                    "ours", "channels last, ReLU within", f"{_HERE}:layer", {"precision": precision}
                ),
                Program(
                    "peer",
                    "PyTorch, as it comes",
                    f"{_HERE}:layer",
                    {"precision": precision, "plain": True},
                ),
                Program(
                    "limit",
                    f"product of two {MATRIX} x {MATRIX} matrices",
                    f"{_HERE}:matrix",
                    {"precision": precision},
                ),
            ],
        )
        for precision in PRECISIONS
    ]
    for base, side in FORWARD.items():
        for precision in PRECISIONS:
            asked = {"base": base, "side": side, "precision": precision}
            found.append(
                Stage(
                    f"forward pass, base {base}, {side} px, {precision}",
                    "GFLOP/s",
                    [
                        Program("ours", "ours", f"{_HERE}:forward", asked),
                        Program("peer", "PyTorch, as it comes", f"{_HERE}:forward_plain", asked, 2),
                        Program("peer", "OpenVINO", f"{_HERE}:forward_openvino", asked),
                        Program(
                            "limit",
                            f"one convolution of {LAYER_CHANNELS} channels",
                            f"{_HERE}:layer",
                            {"precision": precision},
                        ),
                    ],
                )
            )
    return found


def matrix(folder: Path, precision: str) -> Prepared:
    """A product of two square matrices."""
    import torch

    torch.set_num_threads(1)
    a = torch.randn(MATRIX, MATRIX).to(getattr(torch, precision))
    return lambda: a @ a, 2 * MATRIX**3 / 1e9


def layer(folder: Path, precision: str, plain: bool = False) -> Prepared:
    """A convolution with its ReLU: as inference runs it, or as PyTorch does by itself."""
    import torch
    from slideunet.allocator import keep_large_allocations
    from slideunet.rectified import one_pass

    torch.set_num_threads(1)
    convolution = torch.nn.Conv2d(LAYER_CHANNELS, LAYER_CHANNELS, 3).to(getattr(torch, precision))
    x = torch.randn(1, LAYER_CHANNELS, LAYER_PX, LAYER_PX).to(convolution.weight.dtype)
    if not plain:
        keep_large_allocations()
        convolution = convolution.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def work() -> None:
        if plain:
            torch.relu(convolution(x))
        else:
            one_pass(convolution, x)

    return work, 2 * 9 * LAYER_CHANNELS**2 * (LAYER_PX - 2) ** 2 / 1e9


def _tile_and_flops(network, side: int):
    """A random tile for the network and what its forward pass takes, in GFLOP."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    tile = torch.rand(1, 1, side, side).to(network.score.weight.dtype)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(tile)
    return tile, counter.get_total_flops() / 1e9


def _network(base: int):
    import torch
    from procedural_slide import make_network

    torch.set_num_threads(1)
    return make_network(1, base=base)


def forward(folder: Path, base: int, side: int, precision: str) -> Prepared:
    """Ours, as a job runs it."""
    import torch
    from slideunet.allocator import keep_large_allocations
    from slideunet.overlap_tile import prepare, tile_scores

    keep_large_allocations()
    network = _network(base)
    tile, gflop = _tile_and_flops(network, side)
    network = prepare(network, torch.device("cpu"), getattr(torch, precision))
    return lambda: tile_scores(network, tile[0]), gflop


def forward_plain(folder: Path, base: int, side: int, precision: str) -> Prepared:
    """The same network without any care: no memory format, no fusion, glibc as it comes."""
    import torch

    network = _network(base)
    _, gflop = _tile_and_flops(copy.deepcopy(network), side)
    network = network.to(getattr(torch, precision))
    tile = torch.rand(1, 1, side, side).to(network.score.weight.dtype)

    @torch.inference_mode()
    def work() -> None:
        network(tile)

    return work, gflop


def forward_openvino(folder: Path, base: int, side: int, precision: str) -> Prepared:
    """OpenVINO's CPU plugin, compiled for this tile, one thread."""
    import numpy as np
    import openvino
    import torch

    network = _network(base)
    tile, gflop = _tile_and_flops(network, side)
    with torch.no_grad():
        model = openvino.convert_model(network, example_input=tile)
    model.reshape([1, 1, side, side])
    hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
    compiled = openvino.compile_model(
        model,
        "CPU",
        {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1},
    )
    request = compiled.create_infer_request()
    pixels = np.ascontiguousarray(tile.numpy())
    return lambda: request.infer({0: pixels}, share_inputs=True), gflop
