"""TIFF slides read by tifffile: SVS, NDPI, SCN, Philips, QPTIFF, OME-TIFF, ImageJ, plain TIFF.

tifffile finds the pages and decodes one tile or strip at a time; the bytes come from `os.pread`,
which needs no lock. Uncompressed strips are read row by row, so a window never costs a whole
strip. Values stay as stored, with these conversions: bilevel becomes uint8 0/255, float16 float32,
"min is white" is inverted, palettes and JPEG's YCbCr become RGB, alpha is dropped. The Orientation
tag is not applied: coordinates are those of the stored raster, as every viewer of slides has them.
"""

import logging
import math
import os

import numpy as np
import tifffile

from slideunet.errors import SlideError
from slideunet.readers import tiff_colour
from slideunet.readers.base import levels_of, machine_failed
from slideunet.readers.tiff_check import check_tiff
from slideunet.readers.tiff_layout import Layout, NotPlacedError, Plane, layout_of
from slideunet.readers.tiled import TiledReader

# tifffile logs what it thinks odd in a file; what matters of it is raised here in one line.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

# Formats of other instruments: their special handling is no use here and only adds surface.
_NOT_SLIDES = ("lsm", "mmstack", "ndtiff", "fluoview", "stk", "sis", "eer", "scanimage", "nih")
_NOT_SLIDES += ("mdgel", "avs", "indica")
_JPEG = {6, 7, 34892, 33007}
_JPEG2000 = {33003, 33004, 33005, 34712}
_RAW_BLOCK_PX = 512


class TiffReader(TiledReader):
    """A slide in a TIFF file. Raises SlideError, or NotPlacedError if OpenSlide should try."""

    name = "tifffile"

    def __init__(self, path: str):
        super().__init__(path)
        skeleton = check_tiff(self.path)
        flags = dict.fromkeys([f"is_{name}" for name in _NOT_SLIDES], False)
        if skeleton.ndpi:
            flags["is_ndpi"] = True
        try:
            with tifffile.TiffFile(self.path, _multifile=False, **flags) as tif:
                self._order = tif.byteorder
                self._describe(layout_of(self.path, tif))
                self.check_sizes(skeleton.size_bytes)
                # While the file is open: tifffile looks at the first JPEG for its colours.
                for level, planes in enumerate(self._planes):
                    for plane in planes:
                        self._check_plane(level, plane, skeleton.size_bytes)
                # The label and the thumbnail too: a file that is cut off is not the scanner's.
                for number, page in enumerate(tif.pages):
                    self._refuse_cut_off(f"page {number}", page, 0, skeleton.size_bytes)
        except (SlideError, NotPlacedError):
            raise
        except Exception as error:  # tifffile meets damage with whatever comes first
            if machine_failed(error):
                raise
            raise SlideError(f"{self.path}: not readable as TIFF: {error!r}") from error
        self._file = os.open(self.path, os.O_RDONLY)

    def _describe(self, layout: Layout) -> None:
        self._planes = layout.levels
        keys = [planes[0].page.keyframe for planes in self._planes]
        self.levels = levels_of(self.path, [(k.imagelength, k.imagewidth) for k in keys])
        # Level by level and plane by plane: each may be stored in another way.
        self._colours = [
            [tiff_colour.Colour(self.path, plane.page.keyframe, layout.format) for plane in planes]
            for planes in self._planes
        ]
        first = self._colours[0][0]
        if {(c.dtype, c.channels) for each in self._colours for c in each} != {
            (first.dtype, first.channels)
        }:
            raise SlideError(f"{self.path}: its levels or channels differ in colours or type")
        self.format = layout.format
        self.dtype = first.dtype
        self.channels = first.names(len(self._planes[0])) or layout.channels
        if not self.channels:
            total = len(self._planes[0]) * first.channels
            self.channels = [f"channel {i}" for i in range(total)] if total > 1 else ["grey"]
        self.mpp_um = layout.mpp_um
        self.objective_power = layout.objective_power
        self.fill = 255 if layout.glass and self.dtype == np.uint8 else 0
        self.codec = _codec(keys[0])
        self.grids = [(_RAW_BLOCK_PX,) * 2 if _is_raw(key) else _tile_size(key) for key in keys]
        self.tile_px = _tile_size(keys[0])

    def _check_plane(self, level: int, plane: Plane, size_bytes: int) -> None:
        """Every tile must be listed and lie inside the file, and its codec must be there."""
        key, first = plane.page.keyframe, self._planes[level][0].page.keyframe
        same = (key.imagelength, key.imagewidth, _tile_size(key), key.dtype, key.samplesperpixel)
        if same != (
            *(first.imagelength, first.imagewidth, _tile_size(first)),
            *(first.dtype, first.samplesperpixel),
        ):
            raise SlideError(f"{self.path}: the channels of level {level} differ in shape or type")
        try:
            key.decode(None, 0)
        except Exception as error:
            raise SlideError(f"{self.path}: level {level} can't be decoded: {error!r}") from error
        height, width = _tile_size(key)
        need = math.ceil(key.imagelength / height) * math.ceil(key.imagewidth / width)
        need *= key.samplesperpixel if key.planarconfig == 2 else 1
        have = min(len(plane.page.dataoffsets), len(plane.page.databytecounts))
        if have < need:
            raise SlideError(
                f"{self.path}: level {level} has {have} of the {need} tiles or strips it needs"
            )
        self._refuse_cut_off(f"level {level}", plane.page, plane.shift, size_bytes)

    def _refuse_cut_off(self, what: str, page, shift: int, size_bytes: int) -> None:
        offsets, counts = (np.array(n, np.float64) for n in (page.dataoffsets, page.databytecounts))
        number = min(len(offsets), len(counts))
        ends = offsets[:number] + shift + counts[:number]
        wrong = (ends > size_bytes) | (offsets[:number] < 0) | (counts[:number] < 0)
        beyond = int((wrong & (counts[:number] != 0)).sum())
        if beyond:
            raise SlideError(
                f"{self.path}: truncated: {beyond} of {number} tiles or strips of {what} lie "
                f"beyond the file's end ({size_bytes} bytes)"
            )

    def _decode(self, level: int, row: int, column: int) -> np.ndarray:
        parts = []
        for plane, colour in zip(self._planes[level], self._colours[level], strict=True):
            if _is_raw(plane.page.keyframe):
                samples = self._raw(level, plane, row, column)
            else:
                samples = self._compressed(plane, row, column)
            parts.append(colour.convert(samples))
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _compressed(self, plane: Plane, row: int, column: int) -> np.ndarray:
        """Samples (S, h, w) of one tile or strip, as tifffile decodes them."""
        key = plane.page.keyframe
        height, width = _tile_size(key)
        across, down = math.ceil(key.imagewidth / width), math.ceil(key.imagelength / height)
        index = row * across + column
        planar = key.planarconfig == 2 and key.samplesperpixel > 1
        parts = []
        for sample in range(key.samplesperpixel if planar else 1):
            segment = index + sample * across * down
            data = self._bytes(plane, segment)
            if data is not None:
                _refuse_oversized(key, data, height, width)
            tables = {"jpegtables": plane.page.jpegtables, "jpegheader": key.jpegheader}
            decoded, _, shape = key.decode(data, segment, _fullsize=key.is_tiled, **tables)
            if decoded is None:
                empty = self.fill or key.nodata
                decoded = np.full((*shape[:3], 1 if planar else key.samplesperpixel), empty)
                decoded = decoded.astype(key.dtype)
            parts.append(np.moveaxis(decoded[0], -1, 0))
        return np.concatenate(parts) if planar else parts[0]

    def _bytes(self, plane: Plane, segment: int) -> bytes | None:
        count, offset = plane.page.databytecounts[segment], plane.page.dataoffsets[segment]
        if count == 0 or offset == 0:
            return None  # never written: sparse files and scanners leave out what is empty
        return self._pread(count, offset + plane.shift)

    def _pread(self, count: int, offset: int) -> bytes:
        data = os.pread(self._file, count, offset)
        while len(data) < count:
            more = os.pread(self._file, count - len(data), offset + len(data))
            if not more:
                raise ValueError(f"the file ends {count - len(data)} bytes too early")
            data += more
        return data

    def _raw(self, level: int, plane: Plane, row: int, column: int) -> np.ndarray:
        """Samples (S, h, w) of one block of uncompressed strips, row by row."""
        key = plane.page.keyframe
        y, x = row * _RAW_BLOCK_PX, column * _RAW_BLOCK_PX
        height = min(_RAW_BLOCK_PX, self.levels[level].height - y)
        width = min(_RAW_BLOCK_PX, self.levels[level].width - x)
        planar = key.planarconfig == 2 and key.samplesperpixel > 1
        samples = 1 if planar else key.samplesperpixel
        dtype = np.dtype(key.dtype).newbyteorder(self._order)
        pixel = samples * dtype.itemsize
        rows, strips = key.rowsperstrip, math.ceil(key.imagelength / key.rowsperstrip)
        parts = []
        for sample in range(key.samplesperpixel if planar else 1):
            lines = []
            for line in range(y, y + height):
                offset = plane.page.dataoffsets[sample * strips + line // rows] + plane.shift
                offset += (line % rows * key.imagewidth + x) * pixel
                lines.append(self._pread(width * pixel, offset))
            block = np.frombuffer(b"".join(lines), dtype).reshape(height, width, samples)
            parts.append(np.moveaxis(block.astype(dtype.newbyteorder("=")), -1, 0))
        return np.concatenate(parts) if planar else parts[0]

    def _close(self) -> None:
        os.close(self._file)


def _tile_size(key) -> tuple[int, int]:
    if key.is_tiled:
        return key.tilelength, key.tilewidth
    return max(1, min(key.rowsperstrip or key.imagelength, key.imagelength)), key.imagewidth


def _codec(key) -> str:
    if key.compression == 1:
        return "uncompressed"
    return getattr(key.compression, "name", str(key.compression)).lower()


def _is_raw(key) -> bool:
    plain = key.compression == 1 and key.predictor == 1 and key.fillorder == 1
    return (
        plain
        and not key.is_tiled
        and key.bitspersample in {8, 16, 32, 64}
        and key.dtype is not None
        and key.dtype.itemsize * 8 == key.bitspersample
        and not key.is_subsampled
    )


def _refuse_oversized(key, data: bytes, height: int, width: int) -> None:
    """A JPEG in a tile says its own size: one far beyond the tile's is a bomb, not a picture."""
    if key.compression in _JPEG and key.jpegheader is None:
        try:
            _, own_height, own_width, _ = tifffile.tifffile.jpeg_shape(data[:65536])
        except Exception:
            return  # no frame header where one should be: the decoder says what is wrong
    elif key.compression in _JPEG2000 and (at := data[:4096].find(b"\xff\x4f\xff\x51")) >= 0:
        own_width = int.from_bytes(data[at + 8 : at + 12])
        own_height = int.from_bytes(data[at + 12 : at + 16])
    else:
        return
    if own_height * own_width > 4 * max(height * width, 1 << 16):
        raise ValueError(f"a picture of {own_height} x {own_width} in a tile of {height} x {width}")
