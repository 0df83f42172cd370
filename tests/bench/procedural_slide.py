"""A slide of any size whose pixels are computed as they are read, and what segments it."""

import sys
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "workflow" / "scripts"))
DEPTH, BASE = 4, 16
SHARD_PX = 4096
PATTERN_PX = 2048
MEM_MB = 4000


@cache
def pattern() -> np.ndarray:
    """Blobs, (3, PATTERN_PX, PATTERN_PX) uint8, periodic."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(0).random((3, PATTERN_PX, PATTERN_PX), np.float32)
    smooth = gaussian_filter(noise, (0, 6, 6), mode="wrap")
    low, high = smooth.min(), smooth.max()
    return np.rint((smooth - low) / (high - low) * 255).astype(np.uint8)


class ProceduralSlide:
    """A slide of any size whose pixels are a pattern, shifted from row to row of patterns."""

    path, dtype, channels = "procedural", np.dtype("uint8"), ["red", "green", "blue"]

    def __init__(self, height: int, width: int):
        self.height, self.width = height, width
        self._pattern = pattern()

    def read(self, y: int, x: int, height: int, width: int) -> np.ndarray:
        out = np.empty((3, height, width), np.uint8)
        for top, rows in pieces(y, height, 0):
            # Each row of patterns begins elsewhere, so no two windows of it are alike.
            shift = top // PATTERN_PX * 331
            for left, columns in pieces(x, width, shift):
                source_y, source_x = top % PATTERN_PX, (left + shift) % PATTERN_PX
                out[:, top - y : top - y + rows, left - x : left - x + columns] = self._pattern[
                    :, source_y : source_y + rows, source_x : source_x + columns
                ]
        return out

    def unreadable(self) -> list:
        return []


def pieces(start: int, length: int, shift: int):
    """(first, count) of the stretches of an axis that lie within one pattern."""
    end = start + length
    while start < end:
        count = min(end - start, PATTERN_PX - (start + shift) % PATTERN_PX)
        yield start, count
        start += count


@contextmanager
def open_procedural(height: int, width: int):
    """A slide as inference.Plan.open_source wants it."""
    yield ProceduralSlide(height, width)


@contextmanager
def opened(slide):
    """The same for a slide that is there already."""
    yield slide


def write_jpeg(path: Path, slide: ProceduralSlide, tile_px: int = 256) -> None:
    """The slide as a tiled JPEG TIFF, like an Aperio slide of one level."""
    import tifffile

    def tiles():
        for y in range(0, slide.height, tile_px):
            for x in range(0, slide.width, tile_px):
                yield np.moveaxis(slide.read(y, x, tile_px, tile_px), 0, -1)

    tifffile.imwrite(
        path, tiles(), shape=(slide.height, slide.width, 3), dtype=np.uint8,
        tile=(tile_px, tile_px), photometric="rgb", compression="jpeg",
        compressionargs={"level": 90}, metadata=None,
    )  # fmt: skip


def make_network(channels: int, padded: bool = False, base: int = BASE):
    """Depth 4, two classes, the paper's random weights."""
    import torch
    from slideunet.network import UNet, initialise

    network = UNet(channels, 2, DEPTH, base, padded=padded)
    initialise(network, torch.Generator().manual_seed(0))
    return network.eval()


def members(channels: int = 3, base: int = BASE) -> list:
    """One random network and a scaling of 8-bit values."""
    from slideunet.engine import Member

    scaling = {"low": [0.0] * channels, "high": [255.0] * channels}
    return [Member(make_network(channels, base=base), scaling)]


class EveryNth:
    """Tissue in so many shards, spread evenly over the slide."""

    def __init__(self, height: int, width: int, shards: int):
        self.columns = -(-width // SHARD_PX)
        total = -(-height // SHARD_PX) * self.columns
        self.wanted = {k * total // shards for k in range(min(shards, total))}

    def __call__(self, window) -> bool:
        return window.y // SHARD_PX * self.columns + window.x // SHARD_PX in self.wanted


class Disc:
    """Tissue on a disc in the middle, in squares of 512 px as segment.chunk_px has them."""

    def __init__(self, side: int):
        self.side = side

    def square(self, y: int, x: int) -> bool:
        """Whether the square from (y, x) touches the disc."""
        middle = self.side / 2
        near = [min(max(middle, edge), edge + 512) - middle for edge in (y, x)]
        return near[0] ** 2 + near[1] ** 2 <= (self.side / 4) ** 2

    def __call__(self, window) -> bool:
        return any(
            self.square(y, x)
            for y in range(window.y, window.y_end, 512)
            for x in range(window.x, window.x_end, 512)
        )


def request(
    height: int,
    width: int,
    precision: str,
    tile_px: int | str,
    tissue=None,
    open_source=None,
    base: int = BASE,
    shard_px: int = SHARD_PX,
):
    """A request to segment a slide, as stage segment makes it; by default a procedural one."""
    import torch
    from slideunet.segmentation import Request

    settings = {
        "tile_px": tile_px, "shard_px": shard_px, "chunk_px": 512, "precision": precision,
        "averaging": "none", "threads": 1, "on_bad_tile": "fail", "ngff": "0.5",
    }  # fmt: skip
    return Request(
        open_source=open_source or partial(open_procedural, height, width),
        open_members=partial(members, base=base),
        classes=["background", "nucleus"],
        pixel_um=(0.25, 0.25),
        settings=settings,
        device=torch.device("cpu"),
        mem_mb=MEM_MB,
        has_tissue=tissue,
    )
