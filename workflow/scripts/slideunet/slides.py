"""Indexing a slide: what it is, how it looks, where its tissue lies, how its grey values spread.

Nothing is copied: the facts go into the manifest, beside a thumbnail and the tissue's outlines.
"""

import json
import math
import os
from pathlib import Path

import numpy as np

from slideunet.errors import SlideError
from slideunet.quality import focus_of, slide_quality
from slideunet.readers.base import SlideReader, check_mpp
from slideunet.readers.files import identity
from slideunet.readers.open import open_slide
from slideunet.resample import SlideView
from slideunet.slide_file import FILES
from slideunet.tissue import find_tissue
from slideunet.tissue_mask import Tissue
from slideunet.tissue_outlines import from_geojson, to_geojson

# A side below this is a thumbnail, a label or a mistake: there is nothing to segment in it.
MIN_SIDE_PX = 64
# Intensities are measured on at most 64 windows of 512 px: 16 million pixels per channel.
WINDOWS, WINDOW_PX = 64, 512
# The overview is read in blocks of about 2048 x 2048 source pixels, so tiles decode once.
_BLOCK_PX = 2048


def index_slide(
    path: str, settings: dict, folder: str | os.PathLike, tissue_geojson: str | None = None
) -> dict:
    """Facts of a slide for its manifest; writes thumbnail.png and tissue.geojson into `folder`.

    `settings`: index (thumbnail_px, tissue: auto or all), intensity (low_percentile,
    high_percentile), mpp_um (the table's override, um, or None). `tissue_geojson`: the user's own
    outlines. Deterministic. Raises SlideError for a slide or outlines that can't be used.
    """
    path = os.fspath(path)
    with open_slide(path) as reader:
        # A name need not be text: what isn't UTF-8 is shown as \xff.
        name = os.fsencode(os.path.basename(os.path.normpath(path)))
        facts = {"file": name.decode("utf-8", "backslashreplace"), **identity(path)}
        reader.check_sizes(facts["size_bytes"])
        level = reader.levels[0]
        if min(level.height, level.width) < MIN_SIDE_PX:
            raise SlideError(
                f"{path}: {level.height} x {level.width} pixels: too small to be a slide (at least "
                f"{MIN_SIDE_PX} a side)"
            )
        mpp_um, source = _pixel_size(reader, settings.get("mpp_um"))
        reader.mask_bad_tiles = True  # what does not decode is counted here and judged later
        overview, scale_yx = read_overview(reader, settings["index"]["thumbnail_px"])
        if tissue_geojson:
            tissue = from_geojson(os.fspath(tissue_geojson), overview.shape[1:], scale_yx)
        else:
            mode = settings["index"]["tissue"]
            tissue = find_tissue(overview, scale_yx, mpp_um, reader.is_colour, mode)
        tissue = _with_bad_tiles(reader, tissue)
        intensity, focus = _sample(reader, tissue, settings["intensity"])
        facts |= _describe(reader, mpp_um, source)
        facts["thumbnail"] = {
            "height": overview.shape[1],
            "width": overview.shape[2],
            "scale_yx": list(scale_yx),
        }
        facts["tissue"] = {"source": tissue.source}
        facts["intensity"] = intensity
        area = level.height * level.width
        facts["quality"] = slide_quality(overview, tissue, mpp_um, focus, area, reader.is_colour)
        facts["bad_tiles"] = len(reader.bad_windows)
        picture = thumbnail_of(overview, reader.is_colour)
        _write_files(Path(folder), picture, tissue, (level.height, level.width))
    return facts


def _pixel_size(reader: SlideReader, override) -> tuple[tuple[float, float] | None, str | None]:
    """The pixel size (y, x) in um and where it is from: the table goes before the file."""
    if override is not None:
        return check_mpp(reader.path, (float(override), float(override))), "table"
    return check_mpp(reader.path, reader.mpp_um), None if reader.mpp_um is None else "file"


def _describe(reader: SlideReader, mpp_um, source: str | None) -> dict:
    levels = [
        {"height": item.height, "width": item.width, "downsample": item.downsample}
        for item in reader.levels
    ]
    return {
        "reader": reader.name,
        "format": reader.format,
        "height": reader.levels[0].height,
        "width": reader.levels[0].width,
        "levels": levels,
        "tile_px": list(reader.tile_px),
        "codec": reader.codec,
        "dtype": reader.dtype.name,
        "channels": list(reader.channels),
        "mpp_um": None if mpp_um is None else list(mpp_um),
        "mpp_source": source,
        "bounds": None if reader.bounds is None else list(reader.bounds),
        "objective_power": reader.objective_power,
    }


def read_overview(reader: SlideReader, longest_px: int) -> tuple[np.ndarray, tuple[float, float]]:
    """The slide (C, Y, X) with its longest side about `longest_px`, and its scale (y, x).

    Read in blocks, so memory does not grow with the slide.
    """
    level = reader.levels[0]
    scale = max(1.0, max(level.height, level.width) / longest_px)
    view = SlideView(reader, (scale, scale))
    out = np.empty((len(view.channels), view.height, view.width), view.dtype)
    block = max(1, int(_BLOCK_PX / max(view.ratio_yx)))
    for y in range(0, view.height, block):
        for x in range(0, view.width, block):
            height, width = min(block, view.height - y), min(block, view.width - x)
            out[:, y : y + height, x : x + width] = view.read(y, x, height, width)
    return out, view.scale_yx


def _with_bad_tiles(reader: SlideReader, tissue: Tissue) -> Tissue:
    """Tiles that don't decode count as tissue: they must be met again, not passed over."""
    mask = tissue.mask.copy()
    area = 0.0
    for level, y, x, height, width in reader.bad_windows:
        factor = reader.levels[level].downsample
        (y0, x0), (y1, x1) = (
            (
                math.floor(row * factor / tissue.scale_yx[0]),
                math.floor(col * factor / tissue.scale_yx[1]),
            )
            for row, col in ((y, x), (y + height, x + width))
        )
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
        area += height * width * factor**2
    if area > 0.5 * reader.levels[0].height * reader.levels[0].width:
        raise SlideError(
            f"{reader.path}: most of its tiles don't decode, the first: {reader.first_bad_reason}"
        )
    return Tissue(mask, tissue.pen, tissue.scale_yx, tissue.source)


def sample_windows(tissue: Tissue, height: int, width: int) -> list[tuple[int, int, int, int]]:
    """At most WINDOWS windows (y, x, height, width) of level 0 with tissue, spread evenly.

    Taken at even steps along the Z-curve of the grid of windows, whose neighbours are neighbours.
    """
    size_y, size_x = min(WINDOW_PX, height), min(WINDOW_PX, width)
    grid = [
        (min(y, height - size_y), min(x, width - size_x))
        for y in range(0, height, size_y)
        for x in range(0, width, size_x)
    ]
    found = [at for at in grid if tissue.tissue_in(*at, size_y, size_x)]
    found.sort(key=lambda at: (_z_curve(at[0] // size_y, at[1] // size_x), at))
    if len(found) > WINDOWS:
        found = [found[i * len(found) // WINDOWS] for i in range(WINDOWS)]
    return [(y, x, size_y, size_x) for y, x in dict.fromkeys(found)]


def _z_curve(row: int, column: int) -> int:
    code = 0
    for bit in range(max(row.bit_length(), column.bit_length())):
        code |= (column >> bit & 1) << 2 * bit | (row >> bit & 1) << 2 * bit + 1
    return code


def _sample(reader: SlideReader, tissue: Tissue, settings: dict) -> tuple[dict, list[float]]:
    """Intensity percentiles per channel over the sampled windows, exact, and their focus."""
    level = reader.levels[0]
    windows = sample_windows(tissue, level.height, level.width)
    histograms, kept, focus = None, [], []
    narrow = reader.dtype.kind == "u" and reader.dtype.itemsize <= 2
    for y, x, height, width in windows:
        pixels = reader.read(0, y, x, height, width)
        focus.append(focus_of(pixels))
        if not narrow:
            kept.append(pixels.reshape(len(pixels), -1))
            continue
        bins = 1 << 8 * reader.dtype.itemsize
        counts = np.stack([np.bincount(c.ravel(), minlength=bins) for c in pixels])
        histograms = counts if histograms is None else histograms + counts
    wanted = settings["low_percentile"], settings["high_percentile"]
    if not windows:
        low = high = None
    elif narrow:
        low, high = ([_percentile(h, p) for h in histograms] for p in wanted)
    else:
        values = np.concatenate(kept, axis=1)
        finite = [channel[np.isfinite(channel)] for channel in values]
        if not all(channel.size for channel in finite):
            raise SlideError(f"{reader.path}: a channel without a single finite value")
        low, high = ([float(np.percentile(c, p)) for c in finite] for p in wanted)
    facts = {
        "low": low,
        "high": high,
        "low_percentile": wanted[0],
        "high_percentile": wanted[1],
        "level": 0,
        "windows": len(windows),
    }
    return facts, focus


def _percentile(histogram: np.ndarray, percent: float) -> float:
    """numpy's linear percentile, from exact counts."""
    total = int(histogram.sum())
    place = (total - 1) * percent / 100
    cumulative = np.cumsum(histogram)
    below, above = (int(np.searchsorted(cumulative, k, side="right")) for k in _around(place))
    return below + (above - below) * (place - math.floor(place))


def _around(place: float) -> tuple[int, int]:
    return math.floor(place), math.ceil(place)


def _write_files(folder: Path, picture: np.ndarray, tissue: Tissue, shape: tuple) -> None:
    import imagecodecs

    # No mkdir: a folder that is gone has been taken over by another job.
    (folder / FILES[0]).write_bytes(imagecodecs.png_encode(np.ascontiguousarray(picture)))
    text = json.dumps(to_geojson(tissue, *shape), sort_keys=True, allow_nan=False)
    (folder / FILES[1]).write_text(text + "\n", encoding="utf-8")


def thumbnail_of(overview: np.ndarray, colour: bool) -> np.ndarray:
    """An overview (C, Y, X) as 8-bit RGB (Y, X, 3): colours as they are, channels as grey.

    What isn't 8-bit colour is scaled, channel by channel, from its 1st percentile to its 99.8th,
    and the brightest channel is shown.
    """
    if colour and overview.dtype == np.uint8:
        return np.moveaxis(overview, 0, -1)
    grey = np.zeros(overview.shape[1:], np.float64)
    for channel in overview:
        values = np.nan_to_num(channel.astype(np.float64), posinf=0, neginf=0)
        low, high = np.percentile(values, (1, 99.8))
        grey = np.maximum(grey, np.clip((values - low) / max(high - low, 1e-9), 0, 1))
    return np.repeat(np.rint(grey * 255).astype(np.uint8)[..., None], 3, axis=2)
