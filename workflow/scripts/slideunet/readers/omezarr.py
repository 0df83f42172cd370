"""OME-Zarr slides, NGFF 0.4 (Zarr v2) and 0.5 (Zarr v3), on a local disk.

A store is a stranger's folder: its metadata is checked before zarr sees it (plain numbers only, no
object codecs, chunks of bounded size), the paths of its levels must stay inside, and links are
refused. Missing chunks read as the fill value, as Zarr defines it.
"""

import json
import math
import os
import re
import stat

import numpy as np

from slideunet.errors import SlideError
from slideunet.readers.base import levels_of, machine_failed
from slideunet.readers.tiff_facts import UNIT_UM
from slideunet.readers.tiled import PIXELS_MAX, TILE_BYTES_MAX, TiledReader

_JSON_BYTES_MAX = 16 << 20
_LEVELS_MAX = 64
_BLOCK_PX = 512
_V2_DTYPE = re.compile(r"[<>|][buif][1248]")
_V3_DTYPES = {"bool", "float16", "float32", "float64"}
_V3_DTYPES |= {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_V2_CODECS = {"blosc", "zstd", "gzip", "zlib", "lz4", "bz2", "lzma", "delta", "crc32c", "shuffle"}
_V3_CODECS = {"bytes", "transpose", "blosc", "zstd", "gzip", "crc32c", "sharding_indexed"}
_UNITS = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3, "meter": 1e6, **UNIT_UM}


class OmeZarrReader(TiledReader):
    """The first multiscale image of an OME-Zarr folder.

    A training image may be one of several focal planes or time points (`page` counts them, z
    fastest after t as the axes stand) and its labels are welcome (`labels`); a slide is neither.
    """

    name = "zarr"

    def __init__(self, path: str, page: int | None = None, labels: bool = False):
        super().__init__(path)
        self._page = page
        self._root, attributes = _image_group(self.path)
        kinds = {"plate": "a plate of many wells", "image-label": "a label image"}
        for key, what in kinds.items():
            if key in attributes and not (labels and key == "image-label"):
                raise SlideError(f"{self.path}: {what}, not a slide")
        try:
            self._read_metadata(attributes)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise SlideError(f"{self.path}: its OME-Zarr metadata is damaged: {error!r}") from error

    def _read_metadata(self, attributes: dict) -> None:
        image = attributes["multiscales"][0]
        self.format = f"ome-zarr {attributes.get('version') or image.get('version') or '?'}"
        axes = [axis if isinstance(axis, str) else axis["name"] for axis in image["axes"]]
        if axes[-2:] != ["y", "x"] or not set(axes[:-2]) <= {"t", "c", "z"}:
            raise SlideError(f"{self.path}: axes {axes}: not a slide of channels, y and x")
        self._axes = axes
        datasets = image["datasets"]
        if not 0 < len(datasets) <= _LEVELS_MAX:
            raise SlideError(f"{self.path}: {len(datasets)} levels")
        specs = [_array_spec(self.path, self._root, item["path"]) for item in datasets]
        for shape, _, _ in specs:
            self._check_shape(shape)
        self._arrays = [_open_array(self.path, self._root, item["path"]) for item in datasets]
        first = self._arrays[0]
        self.dtype = np.dtype("float32") if first.dtype == np.float16 else np.dtype(first.dtype)
        if self.dtype == bool or any(a.dtype != first.dtype for a in self._arrays):
            raise SlideError(f"{self.path}: its levels are {[str(a.dtype) for a in self._arrays]}")
        count = first.shape[axes.index("c")] if "c" in axes else 1
        self.channels = _channel_names(attributes, count, self.dtype)
        self.fill = 255 if self.is_colour and self.dtype == np.uint8 else 0
        self.levels = levels_of(self.path, [array.shape[-2:] for array in self._arrays])
        self.grids = [_grid(chunks) for _, chunks, _ in specs]
        self.tile_px, self.codec = tuple(specs[0][1][-2:]), specs[0][2]
        self.check_sizes(PIXELS_MAX)  # the store's bytes are only counted when it is indexed
        self.mpp_um = _mpp(image, axes)

    def _check_shape(self, shape: list[int]) -> None:
        if len(shape) != len(self._axes) or min(shape) < 1:
            raise SlideError(f"{self.path}: a level of shape {shape} for axes {self._axes}")
        for axis, size in zip(self._axes, shape, strict=True):
            if axis in "tz" and size > 1 and self._page is None:
                what = "focal planes" if axis == "z" else "time points"
                raise SlideError(f"{self.path}: {size} {what}: a stack, not a slide")

    def _decode(self, level: int, row: int, column: int) -> np.ndarray:
        height, width = self.grids[level]
        y, x = row * height, column * width
        array = self._arrays[level]
        sizes = [n for axis, n in zip(self._axes, array.shape, strict=True) if axis in "tz"]
        place = iter(np.unravel_index(self._page or 0, sizes) if sizes else ())
        window = [slice(None) if axis == "c" else int(next(place)) for axis in self._axes[:-2]]
        data = array[(*window, slice(y, y + height), slice(x, x + width))]
        data = np.asarray(data).astype(self.dtype, copy=False)
        return np.ascontiguousarray(data.reshape(len(self.channels), *data.shape[-2:]))

    def _close(self) -> None:
        self._arrays = []


def section_counts(path: str) -> list[int]:
    """How many time points and focal planes, as the axes stand; [] where there are no such axes.

    Raises SlideError for damaged metadata.
    """
    try:
        root, attributes = _image_group(path)
        image = attributes["multiscales"][0]
        axes = [axis if isinstance(axis, str) else axis["name"] for axis in image["axes"]]
        shape, _, _ = _array_spec(path, root, image["datasets"][0]["path"])
        return [size for axis, size in zip(axes, shape, strict=True) if axis in "tz"]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise SlideError(f"{path}: its OME-Zarr metadata is damaged: {error!r}") from error


def _image_group(path: str) -> tuple[str, dict]:
    """Folder and OME attributes of the first image."""
    root = os.path.abspath(path)
    attributes = _attributes(path, root)
    if "bioformats2raw.layout" in attributes and not attributes.get("multiscales"):
        root = os.path.join(root, "0")
        attributes = _attributes(path, root)
    return root, attributes


def store_files(path: str) -> list[str]:
    """All files of a store, relative and sorted. Raises SlideError for links and devices."""
    found = []
    for folder, folders, files in os.walk(path):
        for name in folders + files:
            full = os.path.join(folder, name)
            mode = os.lstat(full).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise SlideError(
                    f"{path}: {os.path.relpath(full, path)} is a link or device, not a file"
                )
            if stat.S_ISREG(mode):
                found.append(os.path.relpath(full, path))
    return sorted(found)


def _json(path: str, *parts: str) -> dict | None:
    file = os.path.join(*parts)
    if not os.path.isfile(file):
        return None
    if os.path.islink(file):
        raise SlideError(f"{path}: {os.path.basename(file)} is a link")
    with open(file, "rb") as opened:
        raw = opened.read(_JSON_BYTES_MAX + 1)
    try:
        value = json.loads(raw) if len(raw) <= _JSON_BYTES_MAX else None
    except (ValueError, RecursionError) as error:
        raise SlideError(f"{path}: {os.path.basename(file)} isn't JSON: {error}") from error
    if not isinstance(value, dict):
        raise SlideError(f"{path}: {os.path.basename(file)} holds no metadata that can be read")
    return value


def _attributes(path: str, root: str) -> dict:
    """The OME attributes of a group: `ome` of 0.5, the group's own of 0.4."""
    new, old = _json(path, root, "zarr.json"), _json(path, root, ".zattrs")
    attributes = (new or {}).get("attributes", {}) if new is not None else old
    if not isinstance(attributes, dict):
        raise SlideError(f"{path}: a Zarr folder without attributes")
    inner = attributes.get("ome")
    return inner if isinstance(inner, dict) else attributes


def _array_spec(path: str, root: str, name: str) -> tuple[list[int], list[int], str]:
    """Shape, shape of what is decoded at once, and codec, of a level; checked, not opened."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", name):
        raise SlideError(f"{path}: a level at {name!r}: not a path inside the store")
    folder = os.path.join(root, name)
    if ".." in name.split("/") or os.path.realpath(folder) != os.path.join(
        os.path.realpath(root), *name.split("/")
    ):
        raise SlideError(f"{path}: the level at {name!r} lies outside the store")
    new, old = _json(path, folder, "zarr.json"), _json(path, folder, ".zarray")
    if new is not None:
        kind, shape = new["data_type"], new["shape"]
        chunks, codecs = _v3_codecs(path, new["codecs"], new["chunk_grid"]["configuration"])
        fine = kind in _V3_DTYPES
    elif old is not None:
        kind, shape, chunks = old["dtype"], old["shape"], old["chunks"]
        used = [old.get("compressor"), *(old.get("filters") or [])]
        codecs = [item["id"] for item in used if item is not None]
        fine = isinstance(kind, str) and _V2_DTYPE.fullmatch(kind) is not None
        if not set(codecs) <= _V2_CODECS:
            raise SlideError(f"{path}: Zarr codecs {codecs} are not for pictures")
    else:
        raise SlideError(f"{path}: the level {name!r} is missing")
    if not fine:
        raise SlideError(f"{path}: Zarr data of type {kind!r}: not numbers")
    for sizes in (shape, chunks):
        if not all(isinstance(n, int) and 0 < n <= PIXELS_MAX for n in sizes):
            raise SlideError(f"{path}: a Zarr array of shape {shape} in chunks of {chunks}")
    if math.prod(chunks) > TILE_BYTES_MAX:
        raise SlideError(f"{path}: Zarr chunks of {chunks}: too large to decode at once")
    names = [c for c in codecs if c not in {"bytes", "crc32c", "sharding_indexed", "transpose"}]
    return shape, chunks, names[0] if names else "uncompressed"


def _v3_codecs(path: str, codecs: list, grid: dict) -> tuple[list[int], list[str]]:
    """Inner chunk shape and all codec names, shards opened up."""
    chunks, names = grid["chunk_shape"], []
    for codec in codecs:
        names.append(codec["name"])
        if codec["name"] == "sharding_indexed":
            inner = codec["configuration"]
            shard, chunks = chunks, inner["chunk_shape"]
            if math.prod(shard) // max(1, math.prod(chunks)) > 10**6:
                raise SlideError(f"{path}: shards of {shard} with chunks of {chunks}")
            names += [item["name"] for item in inner["codecs"] + inner.get("index_codecs", [])]
    if not set(names) <= _V3_CODECS or names.count("sharding_indexed") > 1:
        raise SlideError(f"{path}: Zarr codecs {names} are not for pictures")
    return chunks, names


def _open_array(path: str, root: str, name: str):
    import zarr  # 0.4 s: only where it is needed

    try:
        return zarr.open_array(os.path.join(root, name), mode="r")
    except Exception as error:
        if machine_failed(error):
            raise
        raise SlideError(f"{path}: Zarr refuses level {name!r}: {error}") from error


def _grid(chunks: list[int]) -> tuple[int, int]:
    """Whole chunks, as many as make a block worth one request."""
    return tuple(n * max(1, _BLOCK_PX // n) for n in chunks[-2:])


def _channel_names(attributes: dict, count: int, dtype: np.dtype) -> list[str]:
    found = (attributes.get("omero") or {}).get("channels") or []
    if len(found) != count:
        return ["grey"] if count == 1 else [f"channel {i}" for i in range(count)]
    colours = [str(channel.get("color", "")).upper() for channel in found]
    if count == 3 and dtype == np.uint8 and colours == ["FF0000", "00FF00", "0000FF"]:
        return ["red", "green", "blue"]
    return [str(c.get("label") or f"channel {i}") for i, c in enumerate(found)]


def _mpp(image: dict, axes: list[str]) -> tuple[float, float] | None:
    """Scale of level 0 in um, where the axes state a unit (NGFF: coordinateTransformations)."""
    size = [1.0, 1.0]
    steps = [*image["datasets"][0].get("coordinateTransformations", [])]
    steps += image.get("coordinateTransformations", [])
    scales = [step["scale"] for step in steps if step.get("type") == "scale"]
    units = [axis.get("unit") if isinstance(axis, dict) else None for axis in image["axes"][-2:]]
    factors = [_UNITS.get(str(unit).lower()) for unit in units]
    if not scales or None in factors:
        return None
    for scale in scales:
        if len(scale) != len(axes):
            raise ValueError(f"a scale of {len(scale)} numbers for {len(axes)} axes")
        size = [size[i] * float(scale[i - 2]) for i in (0, 1)]
    return size[0] * factors[0], size[1] * factors[1]
