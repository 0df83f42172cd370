"""A reader that works tile by tile: decode what a window touches, keep the last tiles, assemble.

Every reader of the package is one: strips are tiles as wide as the image, a PNG is one tile,
OpenSlide's regions are cut on a fixed grid. So a window is the same whatever was read before it.
"""

import threading
from abc import abstractmethod
from collections import OrderedDict

import numpy as np

from slideunet.errors import SlideError
from slideunet.readers.base import SlideReader, machine_failed

# Neighbouring windows share their border tiles and their halos: 64 MB keep 340 RGB tiles of
# 256 px, more than any window of an inference tile touches.
CACHE_BYTES = 64 << 20
# What may be decoded at once: a strip or a PNG of 128 MB (6600 x 6600 RGB) still opens, and the
# decoder's own copies stay far below the 1 GB that a file may cost.
TILE_BYTES_MAX = 128 << 20
# No scanner writes a terapixel; a file that says so lies.
PIXELS_MAX = 10**12


class TileCache:
    """The tiles decoded last, up to a number of bytes (the newest always stays)."""

    def __init__(self, limit_bytes: int):
        self._limit = limit_bytes
        self._tiles: OrderedDict[tuple, np.ndarray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: tuple) -> np.ndarray | None:
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
            return self._tiles.get(key)

    def put(self, key: tuple, tile: np.ndarray) -> None:
        with self._lock:
            if key in self._tiles:
                return
            self._tiles[key] = tile
            self._bytes += tile.nbytes
            while self._bytes > self._limit and len(self._tiles) > 1:
                self._bytes -= self._tiles.popitem(last=False)[1].nbytes


class TiledReader(SlideReader):
    """Base of readers that implement `_decode` and set `grids`, the tile size of each level."""

    def __init__(self, path: str):
        super().__init__(path)
        self.grids: list[tuple[int, int]] = []
        self._cache = TileCache(CACHE_BYTES)

    @abstractmethod
    def _decode(self, level: int, row: int, column: int) -> np.ndarray:
        """Tile (C, h, w) of `dtype`; at the level's far edges it may be whole or cut there."""

    def check_sizes(self, file_bytes: int) -> None:
        """Refuse what can't be true or can't be decoded in bounded memory; before any pixel."""
        channels, itemsize = len(self.channels), self.dtype.itemsize
        for index, (level, grid) in enumerate(zip(self.levels, self.grids, strict=True)):
            pixels = level.height * level.width
            # A million pixels per byte is ten times what a blank slide of shared tiles reaches.
            if pixels > PIXELS_MAX or pixels > 10**6 * max(file_bytes, 1):
                raise SlideError(
                    f"{self.path}: level {index} claims {level.height} x {level.width} pixels, "
                    f"and the file has {file_bytes} bytes"
                )
            if grid[0] * grid[1] * channels * itemsize > TILE_BYTES_MAX:
                raise SlideError(
                    f"{self.path}: level {index} is stored in pieces of {grid[0]} x {grid[1]} "
                    f"pixels, more than {TILE_BYTES_MAX >> 20} MB to decode at once; convert it "
                    "to a tiled TIFF"
                )

    def _tile(self, level: int, row: int, column: int) -> np.ndarray:
        key = (level, row, column)
        tile = self._cache.get(key)
        if tile is not None:
            return tile
        height, width = self.grids[level]
        y, x = row * height, column * width
        need_y = min(height, self.levels[level].height - y)
        need_x = min(width, self.levels[level].width - x)
        try:
            tile = self._decode(level, row, column)
            if tile.shape[1] < need_y or tile.shape[2] < need_x:
                raise ValueError(f"it holds {tile.shape[1]} x {tile.shape[2]} pixels")
        except Exception as error:
            # Decoders raise what they like (RuntimeError, ValueError, struct.error, IndexError):
            # whatever it was, this tile can't be had.
            if machine_failed(error):
                raise
            self.bad_tile(error, (level, y, x, need_y, need_x))
            tile = np.full((len(self.channels), need_y, need_x), self.fill, self.dtype)
        tile.flags.writeable = False
        self._cache.put(key, tile)
        return tile

    def _read(self, level: int, y: int, x: int, height: int, width: int) -> np.ndarray:
        tile_height, tile_width = self.grids[level]
        out = np.empty((len(self.channels), height, width), self.dtype)
        for row in range(y // tile_height, (y + height - 1) // tile_height + 1):
            top = row * tile_height
            y0, y1 = max(y, top), min(y + height, top + tile_height)
            for column in range(x // tile_width, (x + width - 1) // tile_width + 1):
                left = column * tile_width
                x0, x1 = max(x, left), min(x + width, left + tile_width)
                tile = self._tile(level, row, column)
                out[:, y0 - y : y1 - y, x0 - x : x1 - x] = tile[
                    :, y0 - top : y1 - top, x0 - left : x1 - left
                ]
        return out
