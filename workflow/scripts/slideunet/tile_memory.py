"""How much memory a tile takes, and the largest tile that a job's memory holds.

Decided once, before work starts, from what the job was given, never from what the host has: the
tile is part of what makes the result byte-identical.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from slideunet.errors import UserError
from slideunet.geometry import grid_px, input_px_for, padded_to_grid
from slideunet.network import UNet

MB = 2**20
# Of a job that says nothing about its memory: the documented default of `segment.mem_mb`.
DEFAULT_MB = 4000
# Blocks of base_channels x input pixels alive at once. Five by counting: all skip connections
# (1 + 1/2 + 1/4 ..), the concatenation (2), a convolution's result (1). The rest is the kernels'
# scratch and the heap's fragments: 6.5 to 9.5 were measured on the CPU (tiles of 512 to 2048 px,
# base 16, float32 and bf16); the GPU's allocator rounds less.
ACTIVATIONS = {"cpu": 10.0, "cuda": 7.0}
# What the job takes beside tiles: Python, torch, zarr and dask (measured: 330 MB), a child process
# that decodes, with its tile cache (140 MB), and room for the interpreters' growth.
PROCESS_MB = 800
# Share of a GPU's free memory that is used: its context and the allocator's fragments come on top.
GPU_SHARE = 0.85
# Below this the context is most of the work: rather ask for more memory.
SMALLEST_PX = 128


@dataclass(frozen=True)
class Load:
    """What the memory of one job is shared by.

    networks : of the ensemble; one computes at a time
    itemsize : bytes of one number in the networks' precision
    slots : tiles computed at once
    shards : shards in flight; `channels`, `channel_bytes`: of the slide's pixels
    """

    networks: tuple[UNet, ...]
    itemsize: int
    slots: int
    shards: int
    shard_yx: tuple[int, int]
    channel_bytes: int


def limit_mb(mem_mb: int | None) -> int:
    """The job's memory in MB: the least of what Snakemake, Slurm and the control group say."""
    limits = [mem_mb, _slurm_mb(), *_cgroup_mb()]
    return min((limit for limit in limits if limit), default=DEFAULT_MB)


def _slurm_mb() -> int | None:
    value = os.environ.get("SLURM_MEM_PER_NODE", "")
    return int(value) if value.isdigit() and int(value) else None


def _cgroup_mb(root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> list[int]:
    """Limits of this process' control group and of all above it, versions 1 and 2."""
    try:
        lines = Path(own).read_text().splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        base = Path(root) / controllers
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        folder = base / path.lstrip("/")
        while True:
            try:
                text = (folder / name).read_text().strip()
            except OSError:
                text = "max"
            # Version 1 says "no limit" by a number near 2^63.
            if text.isdigit() and int(text) < 2**60:
                limits.append(int(text) // MB)
            if folder in (base, Path("/")):
                break
            folder = folder.parent
    return limits


def tile_bytes(network: UNet, input_yx: tuple[int, int], itemsize: int, device: str) -> int:
    """Upper estimate of the memory that one tile's forward pass takes."""
    pixels = input_yx[0] * input_yx[1]
    base = len(next(network.parameters()))  # features of the first convolution
    activations = ACTIVATIONS[device] * base * itemsize
    # The input as float32, twice in the network's precision; scores, probabilities, the mean over
    # views and its quantisation, all float32.
    ends = network.channels * (4 + 2 * itemsize) + 4 * 4 * network.classes
    return int(pixels * (activations + ends))


def _parameters_bytes(load: Load) -> int:
    """Weights, as loaded (float32) and once more as the kernels reorder them."""
    return sum(p.numel() for n in load.networks for p in n.parameters()) * (4 + load.itemsize)


def _shard_bytes(load: Load) -> int:
    """Pixels with context, probabilities and classes, and as much again while they are encoded."""
    (height, width), network = load.shard_yx, load.networks[0]
    return height * width * int(1.1 * load.channel_bytes + 2 * (network.classes + 1))


def candidates(shard_px: int, depth: int, smallest_px: int = SMALLEST_PX) -> list[int]:
    """Tile steps from the largest down: equal parts of a shard, rounded up to the grid."""
    steps = {padded_to_grid(-(-shard_px // parts), depth) for parts in range(1, shard_px + 1)}
    return sorted((s for s in steps if s >= min(smallest_px, max(steps))), reverse=True)


def next_smaller(tile_px: int, shard_px: int, depth: int) -> int | None:
    """The step with at most half the area, None where there is none left."""
    steps = candidates(shard_px, depth, smallest_px=grid_px(depth))
    return next((step for step in steps if 2 * step**2 <= tile_px**2), None)


def free_gpu_bytes(device: torch.device) -> int:
    """What this process may take of the GPU's memory now."""
    return int(torch.cuda.mem_get_info(device)[0] * GPU_SHARE)


def choose_tile_px(
    load: Load, image_yx: tuple[int, int], shard_px: int, depth: int,
    device: torch.device, memory_mb: int,
) -> int:  # fmt: skip
    """The largest step whose tiles fit: into the GPU's free memory, or into `memory_mb`.

    Raises UserError where the smallest one does not fit.
    """
    if device.type == "cuda":
        budget = free_gpu_bytes(device) - load.shards * _shard_bytes(load)
    else:
        budget = memory_mb * MB - PROCESS_MB * MB - load.shards * _shard_bytes(load)
    budget -= _parameters_bytes(load)
    smallest = 0
    for step in candidates(shard_px, depth):
        sizes = [(network, _input_yx(step, image_yx, network.depth)) for network in load.networks]
        smallest = load.slots * max(
            tile_bytes(network, size, load.itemsize, device.type) for network, size in sizes
        )
        if smallest <= budget:
            return step
    missing = -(-(smallest - budget) // MB)
    what = "the GPU's free memory is" if device.type == "cuda" else f"{memory_mb} MB are"
    raise UserError(
        f"segment.mem_mb: {what} too little for the smallest tile by {missing} MB: "
        "raise it, or lower segment.shard_px or segment.threads"
    )


def _input_yx(tile_px: int, image_yx: tuple[int, int], depth: int) -> tuple[int, int]:
    return tuple(input_px_for(min(tile_px, padded_to_grid(s, depth)), depth) for s in image_yx)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the GPU or on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = "can't allocate memory", "not enough memory", "out of memory", "create a memory"
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
