"""OME-Zarr (NGFF 0.5 on Zarr v3, or 0.4 on Zarr v2): metadata, arrays and pyramids.

A pixel of level k covers 2^k x 2^k pixels of level 0; its centre lies (2^k - 1) / 2 pixels of level
0 further in, which is each level's `translation`. Lengths are in um where the pixel size is known,
else in pixels, without a unit.
"""

from pathlib import Path

import numpy as np
import zarr

from slideunet.arrays import create_array
from slideunet.geometry import level_shapes

VERSIONS = ("0.5", "0.4")
# Okabe & Ito's colours, told apart by colour-blind readers too; class 0 is the background.
COLOURS = ("D55E00", "0072B2", "009E73", "E69F00", "CC79A7", "56B4E9", "F0E442")
BACKGROUND_COLOUR = "808080"
# Of probability maps, level 3 takes 2 to 7 times the time of level 1 for 0 to 10 % fewer bytes
# (measured): 4 % of a base-16 network's own time.
ZSTD_LEVEL = 1
# Class of pixels that could not be read (segment.on_bad_tile: mask).
UNREADABLE = 255


def create_segmentation(
    path: Path,
    *,
    classes: list[str],
    image_yx: tuple[int, int],
    pixel_um: tuple[float, float] | None,
    shard_px: int,
    chunk_px: int,
    version: str,
) -> None:
    """An empty segmentation: groups, metadata, and arrays without chunks; what was there goes.

    `0`, `1` .. (classes, Y, X) uint8 probabilities, 255 = 1.0; `labels/classes/0`, `1` .. (Y, X)
    uint8 class map. Fill value 0: pixels that were not computed, because no tissue is there, have
    probability 0 for all classes (elsewhere they sum to 255, up to rounding) and class 0.
    """
    shapes = level_shapes(*image_yx, chunk_px)
    levels = len(shapes)
    image = {
        "multiscales": [multiscales("probabilities", "cyx", levels, pixel_um, "mean")],
        "omero": {"channels": omero_channels(classes)},
    }
    label = {
        "multiscales": [multiscales("classes", "yx", levels, pixel_um, "mode")],
        "image-label": image_label(classes),
    }
    root = create_group(path, "", image, version)
    create_group(path, "labels", {"labels": ["classes"]}, version)
    maps = create_group(path, "labels/classes", label, version)
    for level, (height, width) in enumerate(shapes):
        shape = (len(classes), height, width)
        create_level(root, str(level), shape, "uint8", "CYX", chunk_px, shard_px, version)
        create_level(maps, str(level), (height, width), "uint8", "YX", chunk_px, shard_px, version)


def create_group(path: Path, name: str, metadata: dict, version: str) -> zarr.Group:
    """A new group with NGFF metadata, in the form that the version asks for."""
    if version == "0.5":
        attributes = {"ome": {"version": version, **metadata}}
    else:
        attributes = {key: _with_version(value) for key, value in metadata.items()}
    return zarr.create_group(
        store=str(path),
        path=name or None,
        overwrite=True,
        zarr_format=3 if version == "0.5" else 2,
        attributes=attributes,
    )


def _with_version(value: object) -> object:
    """NGFF 0.4 notes its version in each block of metadata."""
    if isinstance(value, dict):
        return {"version": "0.4", **value}
    return [{"version": "0.4", **v} if isinstance(v, dict) else v for v in value]


def create_level(
    group: zarr.Group, name: str, shape: tuple[int, ...], dtype: str, axes: str,
    chunk_px: int, shard_px: int, version: str,
) -> zarr.Array:  # fmt: skip
    """An array of one level: sharded in Zarr v3.

    Zarr v2 knows no shards. There a chunk is as large as a shard, so that a slide of 10 gigapixels
    keeps below 2,000 files; its codec is zstd with zstd's own checksum.
    """
    if version == "0.5":
        return create_array(
            group, name, shape, dtype, axes, chunk_px, shard_px, zstd_level=ZSTD_LEVEL
        )
    from numcodecs import Zstd

    return group.create_array(
        name=name,
        shape=shape,
        dtype=dtype,
        chunks=(*shape[:-2], shard_px, shard_px),
        compressors=Zstd(level=ZSTD_LEVEL, checksum=True),
        fill_value=0,
        chunk_key_encoding={"name": "v2", "separator": "/"},
        config={"write_empty_chunks": True},
    )


def multiscales(
    name: str,
    axes: str,
    levels: int,
    pixel_um: tuple[float, float] | None,
    method: str,
    factors: list[float] | None = None,
) -> dict:
    """The `multiscales` entry of an image whose levels each halve Y and X.

    axes : "cyx" or "yx"; pixel_um : (y, x) of level 0, None where it is unknown; method : how a
    level is made from the one before, `mean` or `mode`; factors : pixels of level 0 per pixel of
    each level, where levels do not halve.
    """
    halved = factors is None
    factors = [2.0**level for level in range(levels)] if halved else factors
    unit = {} if pixel_um is None else {"unit": "micrometer"}
    space = [{"name": axis, "type": "space", **unit} for axis in "yx"]
    channel = [{"name": "c", "type": "channel"}] * axes.count("c")
    size = pixel_um or (1.0, 1.0)
    datasets = []
    for level, factor in enumerate(factors):
        scale = [1.0] * len(channel) + [factor * s for s in size]
        shift = [0.0] * len(channel) + [(factor - 1) / 2 * s for s in size]
        datasets.append(
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": scale},
                    {"type": "translation", "translation": shift},
                ],
            }
        )
    found = {
        "name": name,
        "axes": [*channel, *space],
        "datasets": datasets,
        "type": method,
    }
    if not halved:
        return found
    about = f"{method} of 2 x 2 pixels of the level before"
    return {**found, "metadata": {"description": about}}


def omero_channels(classes: list[str]) -> list[dict]:
    """A channel for each class's probability: name, colour, range 0..255; background hidden."""
    return [
        {
            "label": name,
            "color": colour(number),
            "active": number > 0,
            "window": {"min": 0, "max": 255, "start": 0, "end": 255},
        }
        for number, name in enumerate(classes)
    ]


def image_label(classes: list[str]) -> dict:
    """Names and colours of the class map's values; the background is transparent."""
    colours = [{"label-value": 0, "rgba": [0, 0, 0, 0]}]
    colours += [
        {"label-value": n, "rgba": [*bytes.fromhex(colour(n)), 255]} for n in range(1, len(classes))
    ]
    properties = [{"label-value": n, "class": name} for n, name in enumerate(classes)]
    if len(classes) <= UNREADABLE:
        colours.append({"label-value": UNREADABLE, "rgba": [0, 0, 0, 255]})
        properties.append({"label-value": UNREADABLE, "class": "unreadable"})
    return {"colors": colours, "properties": properties, "source": {"image": "../../"}}


def colour(number: int) -> str:
    """RRGGBB of a class."""
    return COLOURS[(number - 1) % len(COLOURS)] if number else BACKGROUND_COLOUR


def halve_mean(values: np.ndarray) -> np.ndarray:
    """(..., Y, X) uint8 -> (..., ceil(Y / 2), ceil(X / 2)): mean of 2 x 2, halves rounded up.

    At an odd edge it is the mean of the pixels that exist.
    """
    values = _even(values)
    rows = values[..., 0::2, :].astype(np.uint16) + values[..., 1::2, :]
    return ((rows[..., 0::2] + rows[..., 1::2] + np.uint16(2)) >> 2).astype(np.uint8)


def halve_mode(values: np.ndarray) -> np.ndarray:
    """(Y, X) uint8 -> (ceil(Y / 2), ceil(X / 2)): the most frequent of 2 x 2; ties: the highest.

    So thin objects outlive the background for as long as they fill half of a pixel.
    """
    values = _even(values)
    if values.size and values.max() <= 1:  # two classes: half of four and more
        rows = values[0::2] + values[1::2]
        return (rows[:, 0::2] + rows[:, 1::2] >= 2).view(np.uint8)
    # Sorting network of four: a <= b <= c <= d.
    top, bottom = values[0::2], values[1::2]
    a, b = np.minimum(top, bottom), np.maximum(top, bottom)
    a, c, b, d = a[:, 0::2], a[:, 1::2], b[:, 0::2], b[:, 1::2]
    a, c = np.minimum(a, c), np.maximum(a, c)
    b, d = np.minimum(b, d), np.maximum(b, d)
    b, c = np.minimum(b, c), np.maximum(b, c)
    # The highest pair of equals wins; without any, all four differ.
    return np.where(c == d, d, np.where(b == c, c, np.where(a == b, b, d)))


def _even(values: np.ndarray) -> np.ndarray:
    """Repeat the last row and column where their number is odd."""
    height, width = values.shape[-2:]
    if height % 2 == 0 and width % 2 == 0:
        return values
    pad = [(0, 0)] * (values.ndim - 2) + [(0, height % 2), (0, width % 2)]
    return np.pad(values, pad, mode="edge")
