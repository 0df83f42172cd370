"""Slides read by OpenSlide: MRXS, Trestle, Ventana BIF, Zeiss CZI, Sakura, Hamamatsu VMS.

OpenSlide puts overlapping tiles in place, which tifffile does not. Regions are cut on a fixed grid
of each level, so a window is the same whatever was asked before. What was never scanned is filled
with the slide's background colour (white where it names none).
"""

import os
import re
import threading

import numpy as np

from slideunet.errors import SlideError
from slideunet.readers.base import levels_of
from slideunet.readers.tiled import TiledReader

_BLOCK_PX = 512
_INI_BYTES_MAX = 1 << 20
# Index files of MIRAX and Hamamatsu name the files beside them; nothing else may be named.
_INI_FILE = re.compile(rb"^\s*(?:FILE_\d+|INDEXFILE|(?:Image|Map|Macro|Opt)\w*File\S*)\s*=\s*(.*)$")


class OpenSlideReader(TiledReader):
    """A slide that OpenSlide reads.

    `why`: the reason why tifffile can't, for the message. Raises SlideError with its reason.
    """

    name = "openslide"

    def __init__(self, path: str, why: str = ""):
        super().__init__(path)
        import openslide  # 30 ms and a native library: only where it is needed

        self._library = openslide
        self._lock = threading.Lock()
        _refuse_paths(self.path)
        try:
            self._slide = openslide.OpenSlide(self.path)
        except openslide.OpenSlideUnsupportedFormatError as error:
            reason = why or "no format that is known here"
            raise SlideError(f"{self.path}: {reason}; OpenSlide doesn't know it either") from error
        except openslide.OpenSlideError as error:
            raise SlideError(f"{self.path}: OpenSlide refuses it: {error}") from error
        facts = self._slide.properties
        self.format = facts.get("openslide.vendor", "?")
        self._slide_levels()
        self.dtype = np.dtype("uint8")
        self.channels = ["red", "green", "blue"]
        self.fill = 255
        colour = facts.get("openslide.background-color", "")
        colour = colour if re.fullmatch("[0-9A-Fa-f]{6}", colour) else "FFFFFF"
        self._background = np.frombuffer(bytes.fromhex(colour), np.uint8).reshape(3, 1, 1)
        size = _number(facts.get("openslide.mpp-y")), _number(facts.get("openslide.mpp-x"))
        self.mpp_um = None if None in size else size
        self.objective_power = _number(facts.get("openslide.objective-power"))
        bounds = [
            _number(facts.get(f"openslide.bounds-{k}")) for k in ("y", "x", "height", "width")
        ]
        self.bounds = None if None in bounds else tuple(int(b) for b in bounds)
        tile = [_number(facts.get(f"openslide.level[0].tile-{k}")) for k in ("height", "width")]
        self.tile_px = (_BLOCK_PX, _BLOCK_PX) if None in tile else (int(tile[0]), int(tile[1]))
        self.codec = "as OpenSlide decodes"

    def _slide_levels(self) -> None:
        shapes = [(height, width) for width, height in self._slide.level_dimensions]
        self.levels = levels_of(self.path, shapes)
        self._downsamples = [float(d) for d in self._slide.level_downsamples]
        self.grids = [(_BLOCK_PX, _BLOCK_PX)] * len(shapes)
        self.check_sizes(_bytes_around(self.path))

    def _decode(self, level: int, row: int, column: int) -> np.ndarray:
        y, x = row * _BLOCK_PX, column * _BLOCK_PX
        height = min(_BLOCK_PX, self.levels[level].height - y)
        width = min(_BLOCK_PX, self.levels[level].width - x)
        # OpenSlide wants the corner in level-0 pixels, whole ones.
        corner = tuple(round(n * self._downsamples[level]) for n in (x, y))
        try:
            region = self._slide.read_region(corner, level, (width, height))
        except self._library.OpenSlideError:
            # After an error the handle answers nothing but this error: the next tile needs another.
            with self._lock:
                self._slide = self._library.OpenSlide(self.path)
            raise
        pixels = np.moveaxis(np.asarray(region), -1, 0)
        colour, alpha = pixels[:3], pixels[3]
        if alpha.min() == 255:
            return np.ascontiguousarray(colour)
        part = alpha.astype(np.float32) / 255
        mixed = colour * part + self._background * (1 - part)
        return np.rint(mixed).astype(np.uint8)

    def _close(self) -> None:
        self._slide.close()


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _bytes_around(path: str) -> int:
    """Bytes of the file and, for formats that keep the pixels beside it, of its folder."""
    folder = os.path.splitext(path)[0] if path.lower().endswith(".mrxs") else os.path.dirname(path)
    total = os.path.getsize(path)
    if path.lower().endswith((".mrxs", ".vms", ".vmu")) and os.path.isdir(folder or "."):
        total += sum(e.stat().st_size for e in os.scandir(folder or ".") if e.is_file())
    return total


def _refuse_paths(path: str) -> None:
    """Index files may name files beside them, not elsewhere."""
    lower = path.lower()
    if lower.endswith(".mrxs"):
        index = os.path.join(os.path.splitext(path)[0], "Slidedat.ini")
        if not os.path.isfile(index):
            raise SlideError(
                f"{path}: its folder {os.path.splitext(path)[0]} with Slidedat.ini is missing"
            )
    elif lower.endswith((".vms", ".vmu")):
        index = path
    else:
        return
    with open(index, "rb") as file:
        text = file.read(_INI_BYTES_MAX + 1)
    if len(text) > _INI_BYTES_MAX:
        raise SlideError(f"{path}: an index file of more than {_INI_BYTES_MAX} bytes")
    for line in text.splitlines():
        found = _INI_FILE.match(line)
        if found and (re.search(rb"[/\\\0]", found[1]) or found[1].strip() in {b"..", b"."}):
            raise SlideError(f"{path}: its index names a file elsewhere: {found[1][:80]!r}")
