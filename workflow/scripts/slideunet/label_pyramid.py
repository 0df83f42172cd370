"""The instance labels as OME-Zarr: an image of its own with a pyramid, ids kept at all levels."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import zarr

from slideunet import ngff
from slideunet.geometry import Window, blocks, level_shapes

# A shard of instance labels: 2048 px a side of uint32 is 16 MB in memory.
SHARD_PX, CHUNK_PX = 2048, 512


def create_label_image(
    path: Path,
    shape: tuple[int, int],
    dtype: np.dtype,
    pixel_um: tuple[float, float] | None,
) -> list[zarr.Array]:
    """An empty label image (Y, X) with its levels, largest first; NGFF 0.5."""
    shapes = level_shapes(*shape, CHUNK_PX)
    metadata = {
        "multiscales": [ngff.multiscales("objects", "yx", len(shapes), pixel_um, "nearest")],
        "image-label": {"source": {"image": "../segmentation.ome.zarr"}},
    }
    group = ngff.create_group(path, "", metadata, "0.5")
    return [
        ngff.create_level(group, str(level), size, dtype, "YX", CHUNK_PX, SHARD_PX, "0.5")
        for level, size in enumerate(shapes)
    ]


def label_files(shape: tuple[int, int]) -> list[str]:
    """The files that a label image of this shape will have, relative to its folder."""
    found = ["zarr.json"]
    for level, (height, width) in enumerate(level_shapes(*shape, CHUNK_PX)):
        found.append(f"{level}/zarr.json")
        found += [
            f"{level}/c/{row}/{column}"
            for row in range(-(-height // SHARD_PX))
            for column in range(-(-width // SHARD_PX))
        ]
    return found


def write_levels(levels: list[zarr.Array]) -> None:
    """Each level from the one before, shard by shard: the pixel at the upper left of 2 x 2.

    Ids can't be averaged, and the most frequent of four is no better at keeping objects than one.
    """
    for finer, coarser in pairwise(levels):
        for block in blocks(Window(0, 0, *coarser.shape), SHARD_PX):
            rows = slice(2 * block.y, min(2 * (block.y + block.height), finer.shape[0]))
            columns = slice(2 * block.x, min(2 * (block.x + block.width), finer.shape[1]))
            target = np.s_[block.y : block.y + block.height, block.x : block.x + block.width]
            coarser[target] = finer[rows, columns][::2, ::2]
