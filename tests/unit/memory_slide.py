"""Slides in memory and small networks for the tests of inference; workers can import it."""

import contextlib
import hashlib
from functools import partial
from pathlib import Path

import numpy as np
import torch
import zarr
from slideunet.engine import Member
from slideunet.network import UNet, initialise
from slideunet.segmentation import Request, segment_slide
from slideunet.shard_store import NAME

SETTINGS = {
    "tile_px": 32,
    "shard_px": 64,
    "chunk_px": 32,
    "precision": "float32",
    "averaging": "none",
    "threads": 1,
    "on_bad_tile": "fail",
    "ngff": "0.5",
}


class MemorySlide:
    """An array (C, Y, X) as engine.Source; notes what was read, refuses what lies outside."""

    path = "memory"

    def __init__(self, pixels: np.ndarray, bad=()):
        self.pixels, self.bad, self.reads = pixels, list(bad), []
        self.height, self.width = pixels.shape[1:]
        self.channels = [f"channel {n}" for n in range(len(pixels))]
        self.dtype = pixels.dtype

    def read(self, y: int, x: int, height: int, width: int) -> np.ndarray:
        assert min(y, x) >= 0 and min(height, width) > 0
        assert y + height <= self.height and x + width <= self.width
        self.reads.append((y, x, height, width))
        return self.pixels[:, y : y + height, x : x + width]

    def unreadable(self) -> list:
        return self.bad

    def touched(self) -> np.ndarray:
        """How often each pixel was read, (Y, X)."""
        counts = np.zeros((self.height, self.width), int)
        for y, x, height, width in self.reads:
            counts[y : y + height, x : x + width] += 1
        return counts


@contextlib.contextmanager
def opened(slide):
    """A slide that needs no closing, as inference.Plan.open_source wants it."""
    yield slide


def noise(height: int, width: int, channels: int = 1, dtype="uint8", seed: int = 0) -> np.ndarray:
    """Random pixels (C, Y, X): no two windows are alike."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=(channels, height, width)).astype(dtype)
    high = np.iinfo(dtype).max
    return rng.integers(0, high, (channels, height, width), dtype=dtype, endpoint=True)


def network(depth: int = 2, channels: int = 1, classes: int = 2, seed: int = 0) -> UNet:
    """A narrow network with the paper's random weights, and biases, so that no scores tie."""
    made = UNet(channels, classes, depth, base_channels=4)
    generator = torch.Generator().manual_seed(seed)
    initialise(made, generator)
    for name, values in made.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(values, std=0.3, generator=generator)
    return made.eval()


def scaling(pixels: np.ndarray) -> dict:
    """Constants that bring the pixels near 0 .. 1."""
    return {"low": [0.0] * len(pixels), "high": [float(max(1, pixels.max()))] * len(pixels)}


def members_of(channels: int, scale: dict, depth: int, classes: int, seeds: tuple) -> list[Member]:
    """An ensemble of random networks."""
    return [Member(network(depth, channels, classes, seed), scale) for seed in seeds]


def request_for(
    pixels, *, depth=2, classes=2, seeds=(0,), bad=(), settings=None, **more
) -> Request:
    """A request to segment the pixels; `settings` and `more` replace the defaults."""
    slide = more.pop("slide", None) or MemorySlide(pixels, bad)
    return Request(
        open_source=partial(opened, slide),
        open_members=partial(members_of, len(pixels), scaling(pixels), depth, classes, seeds),
        classes=["background", "nucleus", "mitosis", "debris"][:classes],
        pixel_um=more.pop("pixel_um", (0.5, 0.25)),
        settings={**SETTINGS, **(settings or {})},
        device=torch.device("cpu"),
        **more,
    )


def segment(folder: Path, pixels: np.ndarray, **more) -> dict:
    """Segment the pixels into `folder`; returns the facts."""
    folder.mkdir(exist_ok=True)
    return segment_slide(request_for(pixels, **more), folder)[0]


def whole(pixels: np.ndarray, depth: int, classes: int = 2, seed: int = 0) -> np.ndarray:
    """Probabilities (classes, Y, X) float32 by one pass over the whole image.

    Written without the tiling code: numpy's reflect around, up to the next size the depth admits.
    """
    scale = scaling(pixels)
    low, high = scale["low"][0], scale["high"][0]
    scaled = (pixels.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    return whole_of_scaled(network(depth, len(pixels), classes, seed), scaled)


def whole_of_scaled(net: UNet, scaled: np.ndarray) -> np.ndarray:
    """The same for a network and scaled pixels."""
    grid, lost = 2**net.depth, 12 * 2**net.depth - 8
    height, width = scaled.shape[1:]

    def after(side: int) -> int:
        wanted = side + lost
        while (wanted - 4 * (grid - 1)) % grid:
            wanted += 1
        return wanted - side - lost // 2

    around = ((0, 0), (lost // 2, after(height)), (lost // 2, after(width)))
    padded = reflected(scaled, around)
    with torch.inference_mode():
        scores = net(torch.from_numpy(padded)[None].float())[0]
        return torch.softmax(scores, dim=0)[:, :height, :width].numpy()


def reflected(values: np.ndarray, around) -> np.ndarray:
    """numpy's reflect; a side of one pixel, which it can't reflect, is repeated."""
    for axis, (before, behind) in enumerate(around):
        pad = [(0, 0)] * values.ndim
        pad[axis] = (before, behind)
        mode = "edge" if values.shape[axis] == 1 else "reflect"
        values = np.pad(values, pad, mode=mode)
    return values


def arrays(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and class map of level 0."""
    group = zarr.open_group(str(folder / NAME), mode="r")
    return group["0"][...], group["labels/classes/0"][...]


def digest(folder: Path, name: str = NAME) -> str:
    """Of all files of a store: names and bytes."""
    root = folder / name
    sha = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        sha.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return sha.hexdigest()
