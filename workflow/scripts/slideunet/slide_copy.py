"""A slide copied into OME-Zarr (index.copy): the same levels, pixel for pixel, with checksums.

Read in a child process, since a decoder that crashes must not take the job along. A copy that was
cut off goes on after the last shard whose bytes are those that its marker tells.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import zarr

from slideunet import ngff
from slideunet.arrays import writing_empty
from slideunet.durable import write_file
from slideunet.errors import SlideError
from slideunet.geometry import Window, blocks
from slideunet.manifest import sha256_of_file
from slideunet.readers.base import BadTileError, SlideReader
from slideunet.readers.open import open_slide
from slideunet.shard_store import METADATA

NAME = "slide.ome.zarr"
CHUNK_PX = 512
# A shard is read, encoded and written at once: at most so many bytes, at most 4096 px a side.
SHARD_BYTES, SHARD_PX = 128 << 20, 4096
RGB = ("FF0000", "00FF00", "0000FF")


def copy_slide(
    reader: SlideReader,
    folder: Path,
    sha256: str,
    pixel_um: tuple[float, float] | None,
    stop: Callable[[], None] = lambda: None,
) -> str:
    """Write `folder`/slide.ome.zarr (NGFF 0.5, levels (C, Y, X) as the reader has them).

    sha256 : of the slide: what an earlier attempt copied from other content is thrown away
    stop : called before each shard; raises where the job is to leave

    Returns the folder's name. Raises SlideError for a tile that does not decode: the copy would
    hide it.
    """
    path, markers = folder / NAME, folder / "copied"
    shard_px = shard_px_of(len(reader.channels) * reader.dtype.itemsize)
    source = markers / "source"
    if not source.exists() or source.read_text() != sha256:
        shutil.rmtree(markers, ignore_errors=True)
        _create(path, reader, pixel_um, shard_px)
        markers.mkdir()
        write_file(source, sha256.encode())
    kept = _sweep(path, markers)
    for level, shape in enumerate(reader.levels):
        array = writing_empty(zarr.open_array(str(path / str(level)), mode="r+"))
        for window in blocks(Window(0, 0, shape.height, shape.width), shard_px):
            name = f"{level}/c/0/{window.y // shard_px}/{window.x // shard_px}"
            if name in kept:
                continue
            stop()
            array[(slice(None), *window.slices())] = _read(reader, level, window)
            (markers / name.replace("/", ".")).write_text(sha256_of_file(path / name))
    _check(path, reader)
    return NAME


def shard_px_of(pixel_bytes: int) -> int:
    """Side of a shard for pixels of so many bytes, all channels together; a multiple of 512."""
    side = SHARD_PX
    while side > CHUNK_PX and side**2 * pixel_bytes > SHARD_BYTES:
        side //= 2
    return side


def _create(path: Path, reader: SlideReader, pixel_um, shard_px: int) -> None:
    """The metadata, and arrays without chunks."""
    factors = [level.downsample for level in reader.levels]
    image = {
        "multiscales": [
            ngff.multiscales("slide", "cyx", len(factors), pixel_um, "scanner", factors)
        ],
        "omero": {"channels": _channels(reader)},
    }
    group = ngff.create_group(path, "", image, "0.5")
    for level, shape in enumerate(reader.levels):
        size = (len(reader.channels), shape.height, shape.width)
        ngff.create_level(
            group,
            str(level),
            size,
            reader.dtype.newbyteorder("="),
            "CYX",
            CHUNK_PX,
            shard_px,
            "0.5",
        )


def _channels(reader: SlideReader) -> list[dict]:
    top = 1.0 if reader.dtype.kind == "f" else float(2 ** (8 * reader.dtype.itemsize) - 1)
    colours = RGB if reader.is_colour else [ngff.colour(n + 1) for n in range(len(reader.channels))]
    return [
        {
            "label": name,
            "color": colour,
            "active": True,
            "window": {"min": 0.0, "max": top, "start": 0.0, "end": top},
        }
        for name, colour in zip(reader.channels, colours, strict=True)
    ]


def _sweep(path: Path, markers: Path) -> set[str]:
    """Names of the shards that are whole; all other files of shards are removed."""
    kept = set()
    for file in [p for p in path.rglob("*") if p.is_file() and p.name not in METADATA]:
        name = file.relative_to(path).as_posix()
        marker = markers / name.replace("/", ".")
        if marker.exists() and marker.read_text() == sha256_of_file(file):
            kept.add(name)
        else:
            file.unlink()
    return kept


def _read(reader: SlideReader, level: int, window: Window):
    try:
        return reader.read(level, *window)
    except BadTileError as error:
        raise SlideError(
            f"{error}; a copy would hide it: set index.copy: false (and segment.on_bad_tile: mask "
            "to go on without that tile)"
        ) from error


def _check(path: Path, reader: SlideReader) -> None:
    """What will be read must be what was: levels, numbers, channels."""
    with open_slide(str(path)) as copy:
        for field in ("levels", "channels", "dtype"):
            if getattr(copy, field) != getattr(reader, field):
                raise SlideError(
                    f"{reader.path}: its {field} {getattr(reader, field)} would become "
                    f"{getattr(copy, field)} in OME-Zarr: set index.copy: false"
                )
