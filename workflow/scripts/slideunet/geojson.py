"""Polygons of all objects as .geojson.gz for QuPath, streamed: RFC 7946, strict JSON.

Coordinates are [x, y] in pixels of the slide's level 0, along pixel edges: the first pixel spans
0..1, so that drawing the polygons back gives the label image. RFC 7946 counts turns with y
upwards: an outer ring that is counter-clockwise for it looks clockwise on a screen. Features come
in the order of the row where an object ends, then by id: an object can be written as soon as it is
whole, so memory holds one row of blocks and the outlines of the objects that reach beyond it.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from slideunet.blocks import Block, bands, ordered_map, read_window
from slideunet.errors import SlideError
from slideunet.outlines import Rings, Sides, find_sides, join_sides, polygons_of, trace

# Measured on outlines: level 6 takes twice the time of 5 and saves nothing, level 4 takes half the
# time and leaves a fifth more bytes.
COMPRESSION_LEVEL = 5


@dataclass(frozen=True)
class Style:
    """How a class is shown: its name and colour (red, green, blue in 0..255)."""

    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Placement:
    """From pixels of the label image to pixels of level 0: scale * edge + offset, per axis."""

    scale_y: float = 1.0
    scale_x: float = 1.0
    offset_y_px: float = 0.0
    offset_x_px: float = 0.0

    def rings(self, y: np.ndarray, x: np.ndarray, start: list[int]) -> list[str]:
        """JSON of the rings whose corners are `start[i]`:`start[i + 1]`, closed.

        Whole numbers where all are, else to 0.01 px of level 0. One format string per ring takes a
        quarter of the time of json.dumps.
        """
        placed = np.stack(
            [x * self.scale_x + self.offset_x_px, y * self.scale_y + self.offset_y_px], axis=-1
        )
        whole = np.rint(placed)
        if np.array_equal(whole, placed):
            numbers, point = whole.astype(np.int64).ravel().tolist(), "[%d,%d]"
        else:
            numbers, point = np.round(placed, 2).ravel().tolist(), "[%.10g,%.10g]"
        return [
            f"[{f'{point},' * (b - a)}{point}]"
            % (*numbers[2 * a : 2 * b], *numbers[2 * a : 2 * a + 2])
            for a, b in pairwise(start)
        ]


def qupath_placement(
    scale: tuple[float, float], bounds: tuple[int, int, int, int] | None
) -> Placement:
    """Placement for QuPath. `scale`: level-0 pixels per label pixel (y, x).

    `bounds` (y, x, height, width): the slide's scanned area, as OpenSlide has it. QuPath shows
    just that area and counts from its corner, unless the slide was opened with --no-crop
    (OpenslideImageServer.java): level-0 coordinates less the corner.
    """
    y, x = bounds[:2] if bounds else (0, 0)
    return Placement(*scale, -y, -x)


def write_geojson(
    path,
    labels,
    last_row: np.ndarray,
    class_of: np.ndarray,
    styles: dict[int, Style],
    *,
    first_id: int = 1,
    placement: Placement | None = None,
    tolerance_px: float = 0.0,
    object_type: str = "detection",
    measurements: dict[str, np.ndarray] | None = None,
    block_px: int = 2048,
    workers: int = 1,
) -> dict[str, int]:
    """Write a FeatureCollection to `path` (.geojson.gz); returns {"objects": n, "bytes": m}.

    `labels`: array-like (Y, X) unsigned; `last_row`, `class_of`: of object first_id + i;
    `tolerance_px` (label pixels, 0: exact outlines) simplifies, keeping polygons valid;
    `measurements`: name -> values of the objects, shown by QuPath; values that are no number are
    left out. Raises SlideError if the label image and the objects don't fit.
    """
    kinds = {number: _properties(style, object_type) for number, style in styles.items()}
    missing = set(np.unique(class_of).tolist()) - set(kinds)
    if missing:
        raise SlideError(f"no name and colour for class {min(missing)} of the objects")
    encode = _Encoder(
        kinds, class_of, first_id, placement or Placement(), tolerance_px, measurements or {}
    )
    objects = 0
    with (
        open(path, "wb") as raw,
        # No name and time in the header: the same objects give the same bytes.
        gzip.GzipFile("", "wb", COMPRESSION_LEVEL, raw, mtime=0) as file,
    ):
        file.write(b'{"type":"FeatureCollection","features":[')
        for features in _features(labels, last_row, first_id, encode, block_px, workers):
            text = ("," if objects else "") + "\n" + ",\n".join(features)
            file.write(text.encode("ascii"))
            objects += len(features)
        file.write(b"\n]}\n")
        file.flush()
        size = raw.tell()
    if objects != len(class_of):
        raise SlideError(f"label image holds {objects} objects, the table {len(class_of)}")
    return {"objects": objects, "bytes": size}


def _features(labels, last_row, first_id: int, encode, block_px: int, workers: int) -> Iterator:
    """Yield lists of encoded features, band by band."""

    def inspect(block: Block) -> tuple[list, Sides]:
        """Features of the objects that lie in one block only, the sides of the others."""
        window = read_window(labels, block.y0 - 1, block.x0 - 1, block.y1 + 1, block.x1 + 1)
        sides = find_sides(window, block.y0, block.x0)
        known = range(first_id, first_id + len(last_row))
        if len(sides) and not (int(sides.id.min()) in known and int(sides.id.max()) in known):
            raise SlideError(
                f"label image holds ids {sides.id.min()}..{sides.id.max()} at y={block.y0}, "
                f"x={block.x0}; known are {known.start}..{known.stop - 1}"
            )
        rim = (window[0], window[-1], window[:, 0], window[:, -1])
        crossing = np.isin(sides.id, np.unique(np.concatenate(rim)))
        return encode(trace(sides.choose(~crossing))), sides.choose(crossing)

    waiting: list[Sides] = []
    for band in bands(labels.shape, block_px):
        ready = []
        for features, crossing in ordered_map(inspect, band, workers):
            ready += features
            waiting.append(crossing)
        sides = join_sides(waiting)
        number = (sides.id - sides.id.dtype.type(first_id)).astype(np.int64)
        complete = last_row[number] < band[0].y1
        ready += encode(trace(sides.choose(complete)))
        waiting = [sides.choose(~complete)]
        if ready:
            ready.sort(key=lambda feature: (last_row[feature[0] - first_id], feature[0]))
            yield [text for _, text in ready]


def _properties(style: Style, object_type: str) -> str:
    """What all objects of a class have in common, as JSON without the closing brace."""
    classification = {"name": style.name, "color": list(style.color)}
    properties = {"objectType": object_type, "classification": classification}
    return json.dumps(properties, allow_nan=False)[:-1]


class _Encoder:
    """Turns rings of whole objects into (id, JSON text of a feature)."""

    def __init__(self, kinds, class_of, first_id, placement, tolerance_px, measurements):
        self.kinds, self.class_of, self.first_id = kinds, class_of, first_id
        self.placement, self.tolerance_px = placement, tolerance_px
        self.measurements = measurements

    def __call__(self, rings: Rings) -> list[tuple[int, str]]:
        if len(rings.id) == 0:
            return []
        start, ids = rings.start.tolist(), rings.id.tolist()
        texts = self.placement.rings(rings.y, rings.x, start)
        outer = rings.area > 0
        new = np.append(True, rings.id[1:] != rings.id[:-1])
        bounds = np.append(np.flatnonzero(new), len(ids)).tolist()
        # An object of one outer ring, which comes first, and of holes, none tied in knots, is
        # written as it is.
        knotted = np.isin(rings.id[bounds[:-1]], rings.knotted)
        plain = ~knotted & (np.add.reduceat(outer, bounds[:-1]) == 1) & outer[bounds[:-1]]
        plain &= self.tolerance_px == 0
        features = []
        for first, end, is_plain in zip(bounds[:-1], bounds[1:], plain.tolist(), strict=True):
            polygons = [texts[first:end]] if is_plain else self._polygons(rings, first, end)
            features.append((ids[first], self._feature(ids[first], polygons)))
        return features

    def _polygons(self, rings: Rings, first: int, end: int) -> list[list[str]]:
        """One object's polygons, each the texts of its rings, by way of lists of corners."""
        loops = []
        for i in range(first, end):
            span = slice(rings.start[i], rings.start[i + 1])
            loops.append(np.stack([rings.x[span], rings.y[span]], axis=-1).tolist())
        polygons = polygons_of(loops)
        if self.tolerance_px > 0:
            polygons = simplify(polygons, self.tolerance_px)
        texts = []
        for polygon in polygons:
            x, y = np.concatenate([np.array(ring, float) for ring in polygon]).T
            texts.append(self.placement.rings(y, x, [0, *np.cumsum([len(r) for r in polygon])]))
        return texts

    def _feature(self, number: int, polygons: list[list[str]]) -> str:
        parts = [f"[{','.join(rings)}]" for rings in polygons]
        kind, coordinates = "Polygon", parts[0]
        if len(parts) > 1:
            kind, coordinates = "MultiPolygon", f"[{','.join(parts)}]"
        row = number - self.first_id
        values = {
            name: value
            for name, column in self.measurements.items()
            if np.isfinite(value := float(column[row]))
        }
        extra = f',"measurements":{json.dumps(values, allow_nan=False)}' if values else ""
        return (
            f'{{"type":"Feature","id":{number},'
            f'"geometry":{{"type":"{kind}","coordinates":{coordinates}}},'
            f'"properties":{self.kinds[int(self.class_of[row])]},"name":"{number}"{extra}}}}}'
        )


def simplify(polygons: list, tolerance_px: float) -> list:
    """Douglas-Peucker on each polygon (rings of [x, y]), which stays valid and keeps its holes."""
    from shapely import Polygon, orient_polygons

    simplified = []
    for outer, *holes in polygons:
        polygon = orient_polygons(Polygon(outer, holes).simplify(tolerance_px))
        rings = [polygon.exterior, *polygon.interiors]
        simplified.append([np.asarray(ring.coords)[:-1].tolist() for ring in rings])
    return simplified
