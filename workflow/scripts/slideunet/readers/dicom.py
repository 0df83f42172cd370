"""DICOM slide microscopy read with pydicom.

Takes the instances of one series that lie in one folder, a level each; nothing that a file names
is followed. Frames lie on the grid of TILED_FULL or where their plane positions say
(DICOM PS3.3 C.8.12.4 and C.8.12.6). Optical paths of one grey sample each become channels.
"""

import os
from pathlib import Path

import numpy as np

from slideunet.errors import SlideError
from slideunet.readers.base import levels_of, machine_failed
from slideunet.readers.dicom_frames import DicomFrames, read_header
from slideunet.readers.tiled import TiledReader

SERIES_FILES_MAX = 1000


class DicomReader(TiledReader):
    """The levels of one DICOM series. `path` is one of its files or the folder with them."""

    name = "pydicom"
    format = "dicom"

    def __init__(self, path: str):
        super().__init__(path)
        self._files = [_frames_of(self.path, file) for file in series_files(self.path)]
        volumes = [f for f in self._files if f.flavour in {None, "VOLUME"}]
        if not volumes:
            kinds = ", ".join(sorted({f.flavour.lower() for f in self._files}))
            raise SlideError(f"{self.path}: holds only the slide's {kinds} image")
        volumes.sort(key=lambda f: -f.width)
        self._levels = volumes
        first = volumes[0]
        for other in volumes:
            if (other.dtype, other.channels) != (first.dtype, first.channels):
                raise SlideError(f"{self.path}: its levels differ in channels or type")
        self.levels = levels_of(self.path, [(f.height, f.width) for f in volumes])
        self.grids = [(f.rows, f.columns) for f in volumes]
        self.dtype, self.channels = first.dtype, first.channels
        self.fill = 255 if self.is_colour and self.dtype == np.uint8 else 0
        self.mpp_um, self.objective_power = first.mpp_um, first.objective_power
        self.tile_px, self.codec = (first.rows, first.columns), first.codec
        self.check_sizes(sum(os.path.getsize(f.path) for f in self._files))

    def _decode(self, level: int, row: int, column: int) -> np.ndarray:
        frames = self._levels[level]
        tile = frames.tile(row, column)
        if tile is None:  # sparse: never scanned
            shape = (len(self.channels), frames.rows, frames.columns)
            return np.full(shape, self.fill, self.dtype)
        return tile

    def _close(self) -> None:
        for file in self._files:
            file.close()


def _frames_of(path: str, file: Path) -> DicomFrames:
    try:
        return DicomFrames(str(file))
    except SlideError:
        raise
    except Exception as error:  # a value of the wrong kind, a frame that doesn't decode
        if machine_failed(error):
            raise
        raise SlideError(f"{path}: DICOM that can't be read: {error!r}") from error


def series_files(path: str) -> list[Path]:
    """The DICOM files of the series that `path` (a file, or a folder of one series) belongs to.

    Sorted by name. Raises SlideError for a folder without slides, or with several.
    """
    here = Path(path)
    folder = here if here.is_dir() else here.parent
    own = None if here.is_dir() else series_uid(here)
    if own == "":
        raise SlideError(f"{path}: not a DICOM file that can be read")
    found: dict[str, list[Path]] = {}
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    for name in names:
        file = folder / name
        if not name.lower().endswith(".dcm") or file.is_symlink() or not file.is_file():
            continue
        uid = series_uid(file)
        if uid and (own is None or uid == own):
            found.setdefault(uid, []).append(file)
    if own is not None and here not in found.get(own, []):
        found.setdefault(own, []).append(here)
    if len(found) != 1:
        raise SlideError(f"{path}: a folder with {len(found)} DICOM series; name one file of one")
    files = next(iter(found.values()))
    if len(files) > SERIES_FILES_MAX:
        raise SlideError(f"{path}: a DICOM series of {len(files)} files")
    return files


def series_uid(file: Path) -> str:
    """SeriesInstanceUID of a DICOM file, or "" where there is none to be read."""
    try:
        with open(file, "rb") as opened:
            opened.seek(128)
            if opened.read(4) != b"DICM":
                return ""
            opened.seek(0)
            head = read_header(opened, specific_tags=["SeriesInstanceUID"])
        return str(head.get("SeriesInstanceUID", "")) or "no uid"
    except Exception as error:
        if machine_failed(error):
            raise
        return ""  # damaged: not part of anyone's series
