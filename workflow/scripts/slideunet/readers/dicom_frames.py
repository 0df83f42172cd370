"""One DICOM slide microscopy instance: where its frames lie in the file and how they decode."""

import itertools
import math
import os
import struct
import warnings

import imagecodecs
import numpy as np

from slideunet.errors import SlideError
from slideunet.readers.base import machine_failed

_SLIDE_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"
_JPEG = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57"}
_JPEG |= {"1.2.840.10008.1.2.4.70"}
_JPEG2000 = {f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203)}
_PLAIN = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"}
_FRAMES_MAX = 10**7
# Corners looked at, and how much smaller the steps of the right order must be, when a file is
# silent about its frames' places (0.35 in the one such file at hand, 1 for noise).
_SEAMS, SEAM_RATIO = 12, 0.7
_EXPLICIT_HEAD, _IMPLICIT_HEAD = 12, 8


class DicomFrames:
    """Header facts and frames of one file. Raises SlideError for what can't be placed or decoded.

    `flavour` is ImageType's third value (VOLUME, LABEL, OVERVIEW, THUMBNAIL) or None.
    """

    def __init__(self, path: str):
        self.path = path
        head, at = _header(path)
        kind = head.get("ImageType") or []
        self.flavour = str(kind[2]).upper() if len(kind) > 2 else None
        self.rows, self.columns = int(head.get("Rows", 0)), int(head.get("Columns", 0))
        self.height = int(head.get("TotalPixelMatrixRows", 0)) or self.rows
        self.width = int(head.get("TotalPixelMatrixColumns", 0)) or self.columns
        if min(self.rows, self.columns, self.height, self.width) < 1:
            raise SlideError(f"{path}: a DICOM picture without rows or columns")
        self.syntax = str(head.file_meta.get("TransferSyntaxUID", ""))
        self.codec = _codec(path, self.syntax)
        self.photometric = str(head.get("PhotometricInterpretation", "")).strip()
        self._samples = int(head.get("SamplesPerPixel", 1))
        self._planar = int(head.get("PlanarConfiguration", 0)) == 1
        self._bits = int(head.get("BitsStored", 8))
        self.dtype = _dtype(path, head)
        self.mpp_um, self.objective_power = _mpp(head), _objective(head)
        self._place(head)
        self._file = os.open(path, os.O_RDONLY)
        try:
            self._frames = self._frame_table(at, int(head.get("NumberOfFrames", 1)))
        except BaseException:
            os.close(self._file)
            raise
        organised = str(head.get("DimensionOrganizationType", "")) == "TILED_FULL"
        if self._sparse is None and not organised and self._across > 1 and self._down > 1:
            self._by_columns = self._order_by_seams()

    def _place(self, head) -> None:
        """Which frame shows which tile and channel: {(row, column): [frame of each channel]}."""
        across, down = math.ceil(self.width / self.columns), math.ceil(self.height / self.rows)
        frames = int(head.get("NumberOfFrames", 1))
        if frames > _FRAMES_MAX or across * down > _FRAMES_MAX:
            raise SlideError(f"{self.path}: {frames} frames for {down} x {across} tiles")
        if int(head.get("TotalPixelMatrixFocalPlanes", 1)) > 1:
            raise SlideError(f"{self.path}: several focal planes: a stack, not a slide")
        paths = max(1, int(head.get("NumberOfOpticalPaths", 1)))
        if self._samples == 3 and paths > 1:
            raise SlideError(f"{self.path}: several optical paths in colour: which is the slide?")
        names = [f"channel {i}" for i in range(paths)] if paths > 1 else ["grey"]
        self.channels = ["red", "green", "blue"] if self._samples == 3 else names
        self._across, self._down, self._paths = across, down, paths
        self._sparse, self._by_columns = None, False
        groups = head.get("PerFrameFunctionalGroupsSequence") or []
        if str(head.get("DimensionOrganizationType", "")) == "TILED_SPARSE" or (
            groups and frames != across * down * paths
        ):
            self._sparse = self._sparse_table(groups, frames)
        elif frames != across * down * paths:
            raise SlideError(
                f"{self.path}: {frames} frames where {down} x {across} tiles and {paths} optical "
                "paths need another number"
            )

    def _sparse_table(self, groups, frames: int) -> dict[tuple[int, int], int]:
        if len(groups) != frames or self._paths > 1:
            raise SlideError(f"{self.path}: sparse frames without a position each")
        table = {}
        for index, group in enumerate(groups):
            place = (group.get("PlanePositionSlideSequence") or [{}])[0]
            y = int(place.get("RowPositionInTotalImagePixelMatrix", 0)) - 1
            x = int(place.get("ColumnPositionInTotalImagePixelMatrix", 0)) - 1
            if y < 0 or x < 0 or y % self.rows or x % self.columns:
                raise SlideError(f"{self.path}: frame {index} lies off the grid of tiles")
            if table.setdefault((y // self.rows, x // self.columns), index) != index:
                raise SlideError(f"{self.path}: two frames at one place: a stack, not a slide")
        return table

    def _frame_table(self, at: int, frames: int) -> list[list[tuple[int, int]]]:
        """(offset, bytes) of every frame's pieces, from the fragments or the plain layout."""
        size = os.fstat(self._file).st_size
        head = os.pread(self._file, _EXPLICIT_HEAD, at)
        if head[:4] != b"\xe0\x7f\x10\x00":
            raise SlideError(f"{self.path}: holds no pixels")
        implicit = self.syntax == "1.2.840.10008.1.2"
        start = at + (_IMPLICIT_HEAD if implicit else _EXPLICIT_HEAD)
        if self.codec == "uncompressed":
            one = self.rows * self.columns * self._samples * self.dtype.itemsize
            if start + one * frames > size:
                raise SlideError(f"{self.path}: truncated: {frames} frames don't fit in the file")
            return [[(start + i * one, one)] for i in range(frames)]
        items = _fragments(self.path, self._file, start, size)
        table, items = items[0], items[1:]  # the first item is the basic offset table
        if len(items) == frames:
            return [[item] for item in items]
        if frames == 1:
            return [items]
        # A frame cut into several fragments: the offset table says where each begins.
        offsets = np.frombuffer(os.pread(self._file, table[1], table[0]), "<u4").astype(np.int64)
        base = table[0] + table[1] + 8  # offsets count from the first item after the table
        edges = [*(offsets + base).tolist(), size]
        found = [
            [item for item in items if begin <= item[0] < end]
            for begin, end in itertools.pairwise(edges)
        ]
        if len(found) != frames or not all(found):
            raise SlideError(
                f"{self.path}: {len(items)} fragments for {frames} frames: truncated or damaged"
            )
        return found

    def tile(self, row: int, column: int) -> np.ndarray | None:
        """Tile (C, rows, columns), or None where a sparse slide has none."""
        if self._sparse is not None:
            if (row, column) not in self._sparse:
                return None
            return self._pixels(self._sparse[row, column])
        index = self._index(row, column, self._by_columns)
        area = self._across * self._down
        parts = [self._pixels(index + path * area) for path in range(self._paths)]
        return np.concatenate(parts)

    def _index(self, row: int, column: int, by_columns: bool) -> int:
        return column * self._down + row if by_columns else row * self._across + column

    def _order_by_seams(self) -> bool:
        """Whether frames run down the columns, for files that don't say where frames lie.

        Neighbouring tiles meet without a step: the order with much smaller steps is the right
        one. Raises SlideError where neither is.
        """
        places = [(r, c) for r in range(self._down - 1) for c in range(self._across - 1)]
        places = places[:: math.ceil(len(places) / _SEAMS)]
        steps = []
        for by_columns in (False, True):
            total = 0.0
            for row, column in places:
                corner = [(row, column), (row, column + 1), (row + 1, column)]
                here, right, below = (
                    self._pixels(self._index(r, c, by_columns)).astype(np.float32)
                    for r, c in corner
                )
                total += np.abs(here[:, :, -1] - right[:, :, 0]).mean()
                total += np.abs(here[:, -1] - below[:, 0]).mean()
            steps.append(total)
        if min(steps) > SEAM_RATIO * max(steps):
            raise SlideError(f"{self.path}: doesn't say where its frames lie (no TILED_FULL)")
        return steps[1] < steps[0]

    def _pixels(self, index: int) -> np.ndarray:
        pieces = self._frames[index]
        data = b"".join(os.pread(self._file, count, offset) for offset, count in pieces)
        if len(data) < sum(count for _, count in pieces):
            raise ValueError("the file ends too early")
        shape = (self.rows, self.columns, self._samples)
        if self.codec == "uncompressed":
            pixels = np.frombuffer(data, self.dtype.newbyteorder("<")).astype(self.dtype)
            if self._planar and self._samples > 1:
                pixels = np.moveaxis(pixels.reshape(self._samples, *shape[:2]), 0, -1)
        elif self.codec == "jpeg":
            # Converters write RGB beside JPEGs whose own header (JFIF) says YCbCr: it is right.
            ycbcr = self.photometric.startswith("YBR") or data[6:10] == b"JFIF"
            space = {"colorspace": "YCBCR" if ycbcr else "RGB", "outcolorspace": "RGB"}
            pixels = imagecodecs.jpeg_decode(data, **(space if self._samples == 3 else {}))
        else:
            pixels = imagecodecs.jpeg2k_decode(data)
        if pixels.size != math.prod(shape):
            raise ValueError(f"it holds {pixels.shape} and should hold {shape}")
        pixels = np.ascontiguousarray(np.moveaxis(pixels.reshape(shape), -1, 0)).astype(self.dtype)
        if self.photometric == "MONOCHROME1":
            return self.dtype.type(2**self._bits - 1) - pixels
        return pixels

    def close(self) -> None:
        os.close(self._file)


def read_header(file, **options):
    """pydicom's header of an open file, up to the pixels; it warns of much that is no matter."""
    import pydicom

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(file, stop_before_pixels=True, **options)


def _header(path: str):
    """The header as pydicom reads it and the position of the pixel data."""
    try:
        with open(path, "rb") as file:
            head = read_header(file)
            at = file.tell()
    except Exception as error:
        if machine_failed(error):
            raise
        raise SlideError(f"{path}: damaged DICOM header: {error}") from error
    if str(head.get("SOPClassUID", "")) != _SLIDE_CLASS:
        raise SlideError(f"{path}: DICOM, but not of a whole slide")
    return head, at


def _codec(path: str, syntax: str) -> str:
    if syntax in _PLAIN:
        return "uncompressed"
    if syntax in _JPEG:
        return "jpeg"
    if syntax in _JPEG2000:
        return "jpeg2000"
    raise SlideError(f"{path}: DICOM transfer syntax {syntax or '(none)'} can't be decoded")


def _dtype(path: str, head) -> np.dtype:
    bits, samples = int(head.get("BitsAllocated", 0)), int(head.get("SamplesPerPixel", 1))
    photometric = str(head.get("PhotometricInterpretation", "")).strip()
    known = {1: {"MONOCHROME1", "MONOCHROME2"}}
    known[3] = {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"}
    if bits not in {8, 16} or int(head.get("PixelRepresentation", 0)):
        raise SlideError(f"{path}: DICOM samples of {bits} bits or with a sign")
    if photometric not in known.get(samples, set()):
        raise SlideError(f"{path}: DICOM pixels as {photometric} with {samples} samples")
    plain = str(head.file_meta.get("TransferSyntaxUID", "")) in _PLAIN
    if photometric.startswith("YBR") and (plain or photometric == "YBR_PARTIAL_420"):
        raise SlideError(f"{path}: uncompressed {photometric}; convert it to RGB")
    return np.dtype(f"uint{bits}")


def _fragments(path: str, file: int, start: int, size: int) -> list[tuple[int, int]]:
    """(offset, bytes) of the items of encapsulated pixel data, the offset table first."""
    items, at = [], start
    while at + 8 <= size:
        tag, length = struct.unpack("<4sI", os.pread(file, 8, at))
        if tag == b"\xfe\xff\xdd\xe0":
            break
        if tag != b"\xfe\xff\x00\xe0" or at + 8 + length > size:
            raise SlideError(f"{path}: truncated or damaged at byte {at}")
        items.append((at + 8, length))
        at += 8 + length
    if len(items) < 2:
        raise SlideError(f"{path}: holds no frames")
    return items


def _mpp(head) -> tuple[float, float] | None:
    """PixelSpacing (y, x) in mm of the shared pixel measures; nothing else is a pixel size."""
    shared = (head.get("SharedFunctionalGroupsSequence") or [{}])[0]
    measures = (shared.get("PixelMeasuresSequence") or [{}])[0]
    spacing = measures.get("PixelSpacing")
    if spacing is None or len(spacing) != 2:
        return None
    return float(spacing[0]) * 1000, float(spacing[1]) * 1000


def _objective(head) -> float | None:
    path = (head.get("OpticalPathSequence") or [{}])[0]
    power = path.get("ObjectiveLensPower")
    return None if power is None else float(power)
