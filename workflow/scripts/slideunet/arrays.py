"""Conventions for Zarr arrays: version 3, named axes, zstd, and a checksum on every chunk.

Without the checksum one flipped bit in a chunk is read back as wrong pixels without an error.
"""

from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

ZSTD_LEVEL = 3  # zstd's own default
WRITE_EMPTY = {"write_empty_chunks": True}


def create_group(path: Path, attributes: dict | None = None) -> zarr.Group:
    """A new Zarr v3 group at `path`; what was there is replaced."""
    return zarr.create_group(
        store=str(path), overwrite=True, zarr_format=3, attributes=attributes or {}
    )


def create_array(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype | str,
    axes: str,
    chunk_px: int = 512,
    shard_px: int | None = None,
    fill_value: float = 0,
    zstd_level: int = ZSTD_LEVEL,
) -> zarr.Array:
    """A new array in the group, one chunk per channel, chunks of `chunk_px` along Y and X.

    `axes` names the dimensions, one letter each ("CYX", "YX"). With `shard_px` (a multiple of
    `chunk_px`) that many pixels a side and all channels share one file; a shard must be written by
    one task only. Chunks that equal the fill value are written like all others, so that a missing
    file is damage and not an empty area.
    """
    spatial = tuple(chunk_px for _ in "YX")
    chunks = (*(1 for _ in shape[:-2]), *spatial)
    shards = None if shard_px is None else (*shape[:-2], shard_px, shard_px)
    return group.create_array(
        name=name,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        shards=shards,
        # The checksum stands last, over the stored bytes.
        compressors=(ZstdCodec(level=zstd_level, checksum=False), Crc32cCodec()),
        fill_value=fill_value,
        dimension_names=tuple(axes.lower()),
        config=WRITE_EMPTY,
    )


def writing_empty(array: zarr.Array) -> zarr.Array:
    """An array that was opened, with the rule of `create_array`: chunks of fill value are written.

    The rule is not kept in the array's metadata: without this, writing an empty block deletes its
    chunk.
    """
    return array.with_config(WRITE_EMPTY)


def write_array(group: zarr.Group, name: str, values: np.ndarray, axes: str) -> zarr.Array:
    """A new array that holds `values`."""
    array = create_array(group, name, values.shape, values.dtype, axes)
    array[...] = values
    return array


def open_group(path: Path) -> zarr.Group:
    """Open a group for reading, of Zarr v3 or v2 (segment.ngff: "0.4")."""
    return zarr.open_group(store=str(path), mode="r")
