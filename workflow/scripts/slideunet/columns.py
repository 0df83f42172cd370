"""The data dictionary of the table of objects: each column's name, unit, type and meaning."""

import re
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Column:
    """One column; `unit` is "1" for numbers without one, `kind` a numpy type or "string"."""

    name: str
    unit: str
    kind: str
    description: str


SHAPE_COLUMNS = (
    Column("id", "1", "id", "number in the label image, by first pixel in raster order"),
    Column("class", "1", "uint8", "class index in the class map; 0 is background"),
    Column("class_name", "1", "string", "name of the class in the configuration"),
    Column("centroid_y_px", "px", "float64", "mean row of its pixels; the first row is 0"),
    Column("centroid_x_px", "px", "float64", "mean column of its pixels; the first column is 0"),
    Column("centroid_y_um", "um", "float64", "from the slide's upper edge to the centroid"),
    Column("centroid_x_um", "um", "float64", "from the slide's left edge to the centroid"),
    Column("bbox_y0_px", "px", "int64", "first row of the bounding box"),
    Column("bbox_x0_px", "px", "int64", "first column of the bounding box"),
    Column("bbox_y1_px", "px", "int64", "row after the last one of the bounding box"),
    Column("bbox_x1_px", "px", "int64", "column after the last one of the bounding box"),
    Column("area_px", "px2", "int64", "number of pixels"),
    Column("area_um2", "um2", "float64", "area_px times the area of a pixel"),
    Column("perimeter_px", "px", "float64", "length of the border, 4-neighbourhood (regionprops)"),
    Column("perimeter_um", "um", "float64", "perimeter_px times the (geometric mean) pixel size"),
    Column("eccentricity", "1", "float64", "of the ellipse with equal second moments; 0: a circle"),
    Column("solidity", "1", "float64", "area over the area of the convex hull"),
    Column("orientation_rad", "rad", "float64",
           "angle from the row axis to the major axis, -pi/2..pi/2, counter-clockwise"),
    Column("touches_edge", "1", "bool", "whether the bounding box reaches the slide's edge"),
)  # fmt: skip

PROBABILITY_COLUMNS = (
    Column("probability_mean", "1", "float64", "mean of its own class's probability"),
    Column("entropy_mean_nats", "nat", "float64",
           "mean of the predictive entropy -sum p ln p of all classes"),
)  # fmt: skip

STATISTICS = {
    "mean": "mean",
    "std": "standard deviation (of the pixels, not of a sample)",
    "min": "smallest value",
    "max": "largest value",
}

STAINS = {
    "haematoxylin_od": "haematoxylin optical density (skimage.color.rgb2hed's unit)",
    "eosin_od": "eosin optical density (skimage.color.rgb2hed's unit)",
}


def slug(name: str) -> str:
    """A channel's name as part of a column's name: lower case, digits and underscores."""
    return re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_") or "channel"


def signal_names(channels: list[str], stains: bool) -> list[str]:
    """Column stems of the channels, made distinct, then of the stains."""
    stems: list[str] = []
    for number, name in enumerate(channels):
        stem = slug(name)
        stems.append(stem if stem not in (*stems, *STAINS) else f"{stem}_{number}")
    return stems + (list(STAINS) if stains else [])


def object_columns(
    channels: list[str] = (), *, stains: bool = False, probabilities: bool = False
) -> list[Column]:
    """All columns of a slide's table, in order."""
    columns = list(SHAPE_COLUMNS)
    if probabilities:
        columns += PROBABILITY_COLUMNS
    names = [f"channel {name!r}, as stored" for name in channels] + list(STAINS.values())
    for stem, name in zip(signal_names(list(channels), stains), names, strict=False):
        unit = "od" if stem in STAINS else "intensity"
        columns += [
            Column(f"{stem}_{statistic}", unit, "float64", f"{meaning} of {name}")
            for statistic, meaning in STATISTICS.items()
        ]
    return columns


def empty_values(column: Column) -> np.ndarray:
    """An array without rows of the column's type."""
    kind = {"id": "uint32", "string": "object"}.get(column.kind, column.kind)
    return np.empty(0, kind)


def dictionary_markdown(columns: list[Column] | None = None) -> str:
    """The data dictionary as a Markdown table (for the docs), by default with an H&E image."""
    columns = columns or object_columns(["red", "green", "blue"], stains=True, probabilities=True)
    kinds = {"id": "uint32; uint64 beyond 4,294,967,295 objects"}
    rows = [
        f"| `{c.name}` | {c.unit} | {kinds.get(c.kind, c.kind)} | {c.description} |"
        for c in columns
    ]
    return "\n".join(["| column | unit | type | meaning |", "|---|---|---|---|", *rows]) + "\n"
