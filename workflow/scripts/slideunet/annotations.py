"""Outlines drawn in ImageScope (XML) or QuPath (GeoJSON), and the label image they make.

A file names classes by ImageScope's layer name (or a region's text) and by QuPath's classification.
Besides the classes of config.yaml four names mean something: the background's own name (the area
holds no object), two of QuPath's built-in ones, `Ignore*` (nobody annotated there) and `Region*`
(outside of these regions nobody annotated), and `Annotate next`, a proposal, which is passed over:
whoever has annotated such a field makes it a `Region*`.
"""

import gzip
import json
import math
import zlib
from pathlib import Path
from xml.parsers import expat

import numpy as np

from slideunet.errors import UserError
from slideunet.polygons import COORDINATE_MAX_PX, Outline, mask, paint

IGNORE_LABEL = -1  # in a label image: nobody annotated there
IGNORE_CLASS = 255  # the same in a class image
IGNORE_NAME, REGION_NAME = "Ignore*", "Region*"
NEXT_NAME = "Annotate next"  # of the fields that stage objects proposes
REGION = -2  # no class: where one looked
PROPOSAL = -3  # no class: passed over
# 400,000 outlines of 60 points: more is no annotation by hand, and takes gigabytes to parse.
BYTES_MAX = 512 * 2**20
# ImageScope's ellipse is stored as the corners of its box: 1 degree steps are 0.004 % of its size.
ELLIPSE_POINTS = 360


def read_outlines(path: str | Path) -> list[Outline]:
    """All outlines of an ImageScope XML or a QuPath GeoJSON (may be gzipped), in the file's order.

    Points, lines and outlines without area are left out: they hold no pixel. Raises UserError,
    naming the file, where it is missing, damaged, of another kind, or holds no outline.
    """
    name = str(path).lower()
    content = _read(path)
    if name.endswith(".xml"):
        outlines = read_aperio(path, content)
    elif name.endswith((".geojson", ".json", ".geojson.gz", ".json.gz")):
        outlines = read_geojson(path, content)
    else:
        raise UserError(f"{path}: outlines are read from .xml (ImageScope) or .geojson (QuPath)")
    outlines = [outline for outline in outlines if outline.area_px > 0]
    if not outlines:
        raise UserError(f"{path}: no outline in it: draw at least one closed region and save again")
    return outlines


def read_aperio(path: str | Path, content: bytes) -> list[Outline]:
    """Outlines of an Aperio ImageScope XML.

    Read as a stream by expat, which reports a document type before anything that it declares: such
    a file is refused there, in whatever encoding it comes, so that no entity is ever expanded.
    A region of the negative pen (NegativeROA) is background.
    """
    handler = _AperioHandler(path)
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = handler.refuse
    parser.StartElementHandler = handler.start
    parser.EndElementHandler = handler.end
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        # LookupError: an encoding that Python does not know
        raise UserError(f"{path}: not readable as XML: {error}") from None
    if not handler.known:
        raise UserError(f"{path}: no <Annotations> in it: save it from ImageScope as XML")
    return handler.outlines


class _AperioHandler:
    """Collects regions as expat reports elements."""

    def __init__(self, path: str | Path):
        self.path = path
        self.outlines: list[Outline] = []
        self.known = False
        self._layer = ""
        self._region: dict[str, str] | None = None
        self._points: list[tuple[float, float]] = []
        self._count = 0

    def refuse(self, *_) -> None:
        raise UserError(
            f"{self.path}: has a document type (DOCTYPE), which ImageScope never writes"
        )

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "Annotations":
            self.known = True
        elif tag == "Annotation":
            self._layer = attributes.get("Name", "").strip()
        elif tag == "Region":
            self._region, self._points = attributes, []
            self._count += 1
        elif tag == "Vertex" and self._region is not None:
            try:
                self._points.append((float(attributes["Y"]), float(attributes["X"])))
            except (KeyError, ValueError):
                raise UserError(
                    f"{self.path}: region {self._count}: a vertex without X, Y"
                ) from None

    def end(self, tag: str) -> None:
        if tag != "Region" or self._region is None:
            return
        region, self._region = self._region, None
        points = self._points
        if region.get("Type") == "2" and len(points) == 2:
            points = _ellipse(*points)
        name = self._layer or region.get("Text", "").strip()
        parts = _parts([[points]], f"{self.path}: region {self._count}")
        negative = region.get("NegativeROA") == "1"
        self.outlines.append(Outline(name, parts, self._count, "region", negative))


def _ellipse(one: tuple[float, float], other: tuple[float, float]) -> list[tuple[float, float]]:
    (y0, x0), (y1, x1) = one, other
    angles = (2 * math.pi * step / ELLIPSE_POINTS for step in range(ELLIPSE_POINTS))
    return [
        ((y0 + y1) / 2 + (y1 - y0) / 2 * math.sin(a), (x0 + x1) / 2 + (x1 - x0) / 2 * math.cos(a))
        for a in angles
    ]


def read_geojson(path: str | Path, content: bytes) -> list[Outline]:
    """Outlines of a GeoJSON: a feature collection, a list of features, or one feature.

    A MultiPolygon is one outline of several parts. QuPath cells count by their boundary
    (`geometry`), not by their `nucleusGeometry`.
    """
    try:
        document = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as GeoJSON: {error}") from None
    if isinstance(document, dict):
        document = document.get("features", [document])
    if not isinstance(document, list):
        raise UserError(f"{path}: not GeoJSON: it has no list of features")
    outlines = []
    for number, feature in enumerate(document, start=1):
        where = f"{path}: feature {number}"
        try:
            geometry = feature.get("geometry", feature)
            kind = geometry["type"]
            if kind == "Polygon":
                polygons = [geometry["coordinates"]]
            elif kind == "MultiPolygon":
                polygons = geometry["coordinates"]
            else:
                continue
            polygons = [[_yx(ring) for ring in polygon] for polygon in polygons]
            properties = feature.get("properties") or {}
            name, kind = _class_name(properties), str(properties.get("objectType", ""))
        except (AttributeError, KeyError, TypeError, IndexError, ValueError):
            raise UserError(f"{where}: not a GeoJSON feature as QuPath writes them") from None
        outlines.append(Outline(name, _parts(polygons, where), number, kind))
    return outlines


def _yx(ring: list) -> list[tuple[float, float]]:
    return [(float(point[1]), float(point[0])) for point in ring]


def _class_name(properties: dict) -> str:
    """QuPath's class: `name`, or `names` of a derived class ("Tumor: Positive")."""
    classification = properties.get("classification") or {}
    if isinstance(classification, str):
        return classification.strip()
    names = classification.get("names") or [classification.get("name") or ""]
    return ": ".join(str(name).strip() for name in names)


def _parts(polygons: list[list[list[tuple[float, float]]]], where: str) -> tuple:
    """Rings as arrays; rings of fewer than three points hold nothing and are left out."""
    parts = []
    for polygon in polygons:
        if not polygon or len(polygon[0]) < 3:
            continue
        rings = [np.asarray(ring, dtype=np.float64) for ring in polygon if len(ring) >= 3]
        for ring in rings:
            if not (np.abs(ring) < COORDINATE_MAX_PX).all():  # NaN too
                raise UserError(f"{where}: a coordinate is no position in a slide")
        parts.append(tuple(rings))
    return tuple(parts)


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _read(path: str | Path) -> bytes:
    """The file's bytes, unzipped, up to BYTES_MAX."""
    if not Path(path).is_file():  # a pipe would block for ever
        raise UserError(f"{path}: no such file")
    opener = gzip.open if str(path).lower().endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
            content = file.read(BYTES_MAX + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error, PermissionError) as error:
        raise UserError(f"{path}: not readable: {error}") from None
    if len(content) > BYTES_MAX:
        raise UserError(f"{path}: more than {BYTES_MAX >> 20} MB: export the annotated part only")
    if not content.strip():
        raise UserError(f"{path}: empty: save the annotations again")
    return content


def label_outlines(
    outlines: list[Outline],
    classes: list[str],
    shape_yx: tuple[int, int],
    origin_yx: tuple[int, int] = (0, 0),
    path: str | Path = "outlines",
) -> tuple[np.ndarray, np.ndarray]:
    """Label image and class image (Y, X) of the outlines; int32 and uint8.

    Labels are 0 background, 1 ... n in the outlines' order, -1 where nobody annotated; classes are
    indices into `classes`, 255 where nobody annotated. Of overlapping outlines the smaller lies on
    top; one of which no pixel is left gets no label. `origin_yx` is the image's first pixel in the
    outlines' coordinates. Raises UserError for a class name that is not among `classes`.
    """
    indices = _class_indices(outlines, classes, path)
    regions = [o for o, index in zip(outlines, indices, strict=True) if index == REGION]
    painted = [(o, index) for o, index in zip(outlines, indices, strict=True) if index >= 0]
    # What is painted is the place in `painted`, from 1: class and label follow from it.
    canvas = np.zeros(shape_yx, dtype=np.int32)
    paint([o for o, _ in painted], list(range(1, len(painted) + 1)), canvas, origin_yx)
    outside = ~mask(regions, shape_yx, origin_yx) if regions else np.zeros(shape_yx, dtype=bool)
    canvas[outside] = 0
    class_of = np.array([0, *(index for _, index in painted)], dtype=np.uint8)
    counts = np.bincount(canvas.ravel(), minlength=len(class_of))
    labelled = (counts > 0) & (class_of > 0) & (class_of != IGNORE_CLASS)
    label_of = np.where(labelled, np.cumsum(labelled), 0).astype(np.int32)
    label_of[class_of == IGNORE_CLASS] = IGNORE_LABEL
    label, class_image = label_of[canvas], class_of[canvas]
    leave_out(label, class_image, outside)
    return label, class_image


def leave_out(label: np.ndarray, class_image: np.ndarray, where: np.ndarray) -> None:
    """Mark pixels as not annotated, in place; `where` is bool (Y, X)."""
    label[where] = IGNORE_LABEL
    class_image[where] = IGNORE_CLASS


def _class_indices(outlines: list[Outline], classes: list[str], path: str | Path) -> list[int]:
    """Of each outline the index into `classes`, IGNORE_CLASS, REGION or PROPOSAL; case is ignored.

    Outlines without a class are of the only foreground class, if there is just one and no outline
    is of another kind or of a class: else one of them may be a region around the others.
    """
    known = {name.casefold(): index for index, name in enumerate(classes)}
    special = {
        "": 1,
        IGNORE_NAME.casefold(): IGNORE_CLASS,
        REGION_NAME.casefold(): REGION,
        NEXT_NAME.casefold(): PROPOSAL,
    }
    positive = [outline for outline in outlines if not outline.negative]
    kinds = {outline.kind for outline in positive if not outline.name}
    named = any(outline.name.casefold() in known for outline in positive)
    doubtful = len(classes) > 2 or len(kinds) > 1 or named
    indices = []
    for outline in outlines:
        name = classes[0].casefold() if outline.negative else outline.name.casefold()
        if not (name in known or name in special) or (not name and doubtful):
            said = f"has the class {outline.name!r}" if name else "has no class"
            choice = ", ".join([*classes, IGNORE_NAME, REGION_NAME])
            raise UserError(f"{path}: outline {outline.number} {said}: the classes are {choice}")
        indices.append((special | known)[name])
    return indices
