"""Tissue as GeoJSON: the mask's outlines written for QuPath, and a user's own outlines read."""

import json
import os

import numpy as np

from slideunet.errors import SlideError
from slideunet.tissue_mask import Tissue

_JSON_BYTES_MAX = 256 << 20


def to_geojson(tissue: Tissue, height: int, width: int) -> dict:
    """FeatureCollection of the mask's outlines, exact to the mask's pixels, in level-0 pixels.

    `height`, `width`: the slide's level 0, at which outlines end.
    """
    import shapely

    boxes = []
    for y, row in enumerate(tissue.mask):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(np.int8)))
        boxes += [(x0, y, x1, y + 1) for x0, x1 in edges.reshape(-1, 2).tolist()]
    shape = shapely.union_all(shapely.box(*np.array(boxes).T)) if boxes else shapely.Polygon()
    shape = shapely.simplify(shape, 0)  # drops the corners within straight lines
    scale = np.array(tissue.scale_yx[::-1])
    limit = np.array([width, height])
    shape = shapely.transform(shape, lambda points: np.minimum(points * scale, limit))
    parts = [part for part in shapely.get_parts(shape) if not part.is_empty]
    return {
        "type": "FeatureCollection",
        "features": [_feature(part) for part in shapely.get_parts(shapely.normalize(parts))],
    }


def _feature(polygon) -> dict:
    import shapely

    rings = json.loads(shapely.to_geojson(polygon))
    return {
        "type": "Feature",
        "geometry": rings,
        "properties": {"objectType": "annotation", "classification": {"name": "Tissue"}},
    }


def from_geojson(path: str, shape: tuple[int, int], scale_yx: tuple[float, float]) -> Tissue:
    """The user's outlines as a mask on the overview's grid (`shape`), touched pixels included.

    Coordinates are level-0 pixels (x, y), as QuPath writes them. Raises SlideError for a file that
    holds no polygon, or none on the slide.
    """
    from skimage.draw import polygon2mask

    mask = np.zeros(shape, bool)
    polygons = _polygons(path)
    for polygon in polygons:
        part = np.zeros(shape, bool)
        for number, ring in enumerate(polygon):
            # Corners lie between pixels, pixel centres at halves: shift before filling.
            points = np.array(ring, np.float64)[:, 1::-1] / scale_yx - 0.5
            inside = polygon2mask(shape, points)
            part = part | inside if number == 0 else part & ~inside
        if not part.any():  # smaller than a pixel, it still counts
            y, x = np.floor(np.array(polygon[0], np.float64)[0, 1::-1] / scale_yx).astype(int)
            if 0 <= y < shape[0] and 0 <= x < shape[1]:
                part[y, x] = True
        mask |= part
    if not mask.any():
        raise SlideError(f"{path}: none of its {len(polygons)} polygons lies on the slide")
    return Tissue(_wider(mask), np.zeros(shape, bool), scale_yx, "outlines")


def _wider(mask: np.ndarray) -> np.ndarray:
    """With all eight neighbours of its pixels: scipy's dilation without what importing it takes."""
    wide = np.pad(mask, 1)
    rows = wide[:-2] | wide[1:-1] | wide[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]


def _polygons(path: str) -> list[list]:
    """All polygons as lists of rings of (x, y)."""
    if not os.path.isfile(path):
        raise SlideError(f"{path}: the tissue outlines are missing (column tissue)")
    if os.path.getsize(path) > _JSON_BYTES_MAX:
        raise SlideError(f"{path}: tissue outlines of more than {_JSON_BYTES_MAX >> 20} MB")
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        items = content if isinstance(content, list) else content.get("features", [content])
        found = []
        for item in items:
            geometry = item.get("geometry", item)
            if geometry["type"] == "Polygon":
                found.append(geometry["coordinates"])
            elif geometry["type"] == "MultiPolygon":
                found += geometry["coordinates"]
        for ring in (ring for polygon in found for ring in polygon):
            points = np.array(ring, np.float64)
            if points.ndim != 2 or points.shape[0] < 3 or not np.isfinite(points).all():
                raise ValueError("a ring of fewer than three points, or with no numbers")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SlideError(f"{path}: not GeoJSON that can be read: {error}") from error
    if not found:
        raise SlideError(f"{path}: holds no polygon; draw the tissue as polygons")
    return found
