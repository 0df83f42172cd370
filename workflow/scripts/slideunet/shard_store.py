"""A segmentation while it is being written: shards, and the markers by which a job is resumed.

A shard is one file of the probabilities and one of the class map, written by one task only. Then a
marker is written that holds their sha256 and what was found out about the shard. A job that was
killed goes on from the shards whose files have the bytes that their markers tell; all other files
are swept, so that nothing half-written is published. Nothing is flushed to the disk here: after a
power loss checksums tell what is missing, and publishing flushes all (store.py).
"""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zarr

from slideunet.arrays import writing_empty
from slideunet.durable import retried
from slideunet.geometry import Window
from slideunet.store import sha256_of_file, to_json

NAME = "segmentation.ome.zarr"
METADATA = {"zarr.json", ".zgroup", ".zattrs", ".zarray"}


class Shard(NamedTuple):
    """A shard's place: pyramid level, row and column of the shard grid."""

    level: int
    row: int
    column: int

    @property
    def key(self) -> str:
        """The name of its marker."""
        return f"{self.level}.{self.row}.{self.column}"

    def children(self, rows: int, columns: int) -> list["Shard"]:
        """The shards of the level before it that it is made from; `rows` x `columns` exist."""
        return [
            Shard(self.level - 1, row, column)
            for row in range(2 * self.row, min(2 * self.row + 2, rows))
            for column in range(2 * self.column, min(2 * self.column + 2, columns))
        ]


class Block(NamedTuple):
    """Probabilities (classes, Y, X) and class map (Y, X) of a window, uint8."""

    probabilities: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class ShardStore:
    """The store in a work folder. Picklable: each process opens the arrays for itself."""

    folder: Path
    shard_px: int
    version: str  # of NGFF
    name: str = NAME

    @property
    def path(self) -> Path:
        """The OME-Zarr folder."""
        return self.folder / self.name

    @property
    def markers(self) -> Path:
        """The folder of the markers."""
        return self.folder / "markers"

    @cached_property
    def arrays(self) -> list[tuple[zarr.Array, zarr.Array]]:
        """Probabilities and class map of each level, open for writing."""
        root = zarr.open_group(store=str(self.path), mode="r+")
        attributes = root.attrs.asdict()
        levels = attributes.get("ome", attributes)["multiscales"][0]["datasets"]
        return [
            tuple(
                writing_empty(root[f"{folder}{level['path']}"])
                for folder in ("", "labels/classes/")
            )
            for level in levels
        ]

    def grid(self, level: int) -> tuple[int, int]:
        """Rows and columns of the shard grid of a level."""
        height, width = self.arrays[level][1].shape
        return -(-height // self.shard_px), -(-width // self.shard_px)

    def shards(self, level: int) -> list[Shard]:
        """All shards of a level, row by row."""
        rows, columns = self.grid(level)
        return [Shard(level, row, column) for row in range(rows) for column in range(columns)]

    def window(self, shard: Shard) -> Window:
        """The pixels of a shard, trimmed to the image."""
        height, width = self.arrays[shard.level][1].shape
        y, x = shard.row * self.shard_px, shard.column * self.shard_px
        return Window(y, x, min(self.shard_px, height - y), min(self.shard_px, width - x))

    def files(self, shard: Shard) -> list[str]:
        """The shard's files, relative to the store."""
        level, row, column = shard
        if self.version == "0.5":
            return [f"{level}/c/0/{row}/{column}", f"labels/classes/{level}/c/{row}/{column}"]
        return [f"{level}/0/{row}/{column}", f"labels/classes/{level}/{row}/{column}"]

    def write(self, shard: Shard, block: Block) -> dict[str, str]:
        """Write the shard's files; returns their sha256 by name."""
        window = self.window(shard).slices()
        probabilities, classes = self.arrays[shard.level]

        def write() -> dict[str, str]:
            probabilities[(slice(None), *window)] = block.probabilities
            classes[window] = block.classes
            return {name: sha256_of_file(self.path / name) for name in self.files(shard)}

        return retried(write)

    def mark(self, shard: Shard, files: dict[str, str], found: dict) -> None:
        """Note that the shard's files are whole, and what was found out about it."""
        aside = self.markers / f"{shard.key}.part"

        def write() -> None:
            self.markers.mkdir(exist_ok=True)
            aside.write_bytes(to_json({**found, "files": files}))
            os.replace(aside, self.markers / shard.key)

        retried(write)

    def read(self, shard: Shard) -> Block:
        """A shard that was written; each chunk's checksum is checked."""
        window = self.window(shard).slices()
        probabilities, classes = self.arrays[shard.level]
        return Block(probabilities[(slice(None), *window)], classes[window])

    def marker(self, shard: Shard) -> dict | None:
        """What the marker says, None where there is none."""
        try:
            return json.loads((self.markers / shard.key).read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def resume(self) -> set[Shard]:
        """The shards that are whole; files and markers of all others are removed."""
        done, keep = set(), set()
        for level in range(len(self.arrays)):
            for shard in self.shards(level):
                files = (self.marker(shard) or {}).get("files", {})
                if files and all(_has_bytes(self.path / n, digest) for n, digest in files.items()):
                    done.add(shard)
                    keep.update(files)
        for path in self.path.rglob("*"):
            name = path.relative_to(self.path).as_posix()
            if path.is_file() and path.name not in METADATA and name not in keep:
                path.unlink()
        if self.markers.is_dir():
            keys = {shard.key for shard in done}
            for path in self.markers.iterdir():
                if path.name not in keys:
                    path.unlink()
        return done


def _has_bytes(path: Path, sha256: str) -> bool:
    try:
        return sha256_of_file(path) == sha256
    except FileNotFoundError:
        return False
