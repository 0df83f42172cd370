"""Plain PNG and JPEG pictures: one level, decoded as a whole and kept while the reader is open."""

import os
import struct

import imagecodecs
import numpy as np
import tifffile

from slideunet.errors import SlideError
from slideunet.readers.base import MPP_MAX_UM, levels_of
from slideunet.readers.tiled import TiledReader

_CHUNKS_MAX = 64  # pHYs stands before the pixels: a handful of chunks in


class PlainReader(TiledReader):
    """A PNG (8 or 16 bit, grey, colour, palette; alpha dropped) or a JPEG (grey or colour)."""

    name = "imagecodecs"

    def __init__(self, path: str):
        super().__init__(path)
        with open(self.path, "rb") as file:
            head = file.read(65536)
        self._size_bytes = os.path.getsize(self.path)
        try:
            if head.startswith(b"\x89PNG"):
                height, width, samples, bits = _png_header(head)
                self.codec, self.mpp_um = "png", _png_size(head)
            else:
                bits, height, width, samples = tifffile.tifffile.jpeg_shape(head)
                self.codec = "jpeg"
        except (ValueError, IndexError, struct.error) as error:
            raise SlideError(f"{self.path}: damaged header: {error}") from error
        if samples == 4 and self.codec == "jpeg":
            raise SlideError(f"{self.path}: stored as CMYK; convert it to RGB or grey")
        self.format = self.codec
        self.channels = ["red", "green", "blue"] if samples >= 3 else ["grey"]
        self.dtype = np.dtype("uint16" if bits == 16 else "uint8")
        self.levels = levels_of(self.path, [(height, width)])
        self.grids = [(height, width)]
        self.tile_px = (height, width)
        self.check_sizes(self._size_bytes)

    def _decode(self, level: int, row: int, column: int) -> np.ndarray:
        with open(self.path, "rb") as file:
            data = file.read()
        decode = imagecodecs.png_decode if self.codec == "png" else imagecodecs.jpeg8_decode
        pixels = decode(data)
        pixels = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
        if pixels.dtype != self.dtype or pixels.shape[2] < len(self.channels):
            raise ValueError(f"{pixels.dtype} pixels with {pixels.shape[2]} channels")
        pixels = pixels[..., : len(self.channels)]
        return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))

    def _close(self) -> None:
        self._cache = None


def _png_header(head: bytes) -> tuple[int, int, int, int]:
    """Height, width, samples as decoded (a palette gives 3) and bits, from IHDR."""
    if head[12:16] != b"IHDR" or len(head) < 29:
        raise ValueError("no IHDR chunk")
    width, height = int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
    samples = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(head[25])
    if samples is None or head[24] not in {1, 2, 4, 8, 16}:
        raise ValueError(f"colour type {head[25]} of {head[24]} bits")
    return height, width, samples, head[24]


def _png_size(head: bytes) -> tuple[float, float] | None:
    """Pixel size from pHYs in pixels per metre, where it is a microscope's and not a printer's."""
    at = 8
    for _ in range(_CHUNKS_MAX):
        length, kind = int.from_bytes(head[at : at + 4]), head[at + 4 : at + 8]
        if kind == b"pHYs" and length == 9 and head[at + 16] == 1:
            per_metre = (
                int.from_bytes(head[at + 12 : at + 16]),
                int.from_bytes(head[at + 8 : at + 12]),
            )
            if min(per_metre) > 0 and 1e6 / min(per_metre) <= MPP_MAX_UM:
                return 1e6 / per_metre[0], 1e6 / per_metre[1]
        at += 12 + length
        if at >= len(head) or kind == b"IDAT":
            break
    return None
