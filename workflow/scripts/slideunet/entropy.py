"""Where to annotate next: the fields in which the network is least sure, or networks disagree."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slideunet.errors import SlideError
from slideunet.geojson import Placement, Style
from slideunet.probability import entropy_nats, read_probabilities

# Columns of fields read at a time: flat memory on wide slides.
READ_PX = 4096


@dataclass(frozen=True)
class Field:
    """A rectangle in pixels of the probability map; `score` in nats."""

    y: int
    x: int
    height: int
    width: int
    score: float


def rank_fields(
    probabilities,
    field_px: int,
    count: int,
    *,
    others: Sequence = (),
    tissue=None,
    tissue_fraction: float = 0.5,
) -> list[Field]:
    """The `count` fields of a square grid with the highest mean score, best first.

    `probabilities`: array-like (C, Y, X) uint8 or float, of any level. The score is the predictive
    entropy; with the maps of further models in `others` it is their disagreement, the entropy of
    the mean less the mean entropy (BALD: Houlsby et al. 2011, arXiv:1112.5745). `tissue`:
    array-like (Y, X), not 0 where there is tissue: fields with a smaller share than
    `tissue_fraction` are left out. Fields cut by the slide's edge are left out, unless the slide is
    smaller than one. Raises SlideError for NaN or maps that differ in shape.
    """
    shape = tuple(probabilities.shape)
    for name, array in (*(("another model's map", o) for o in others), ("tissue", tissue)):
        wanted = shape[1:] if name == "tissue" else shape
        if array is not None and tuple(array.shape) != wanted:
            raise SlideError(f"{name} is {tuple(array.shape)}, the probabilities {shape}")
    height, width = min(field_px, shape[1]), min(field_px, shape[2])
    if min(height, width) < 1:
        return []
    step = width * max(1, READ_PX // width)
    fields = []
    for y in range(0, shape[1] - height + 1, height):
        for start in range(0, shape[2] - width + 1, step):
            where = np.s_[y : y + height, start : min(start + step, shape[2])]
            score = _score(probabilities, others, where)
            covered = None if tissue is None else np.asarray(tissue[where]) != 0
            for x in range(0, score.shape[1] - width + 1, width):
                if covered is not None and covered[:, x : x + width].mean() < tissue_fraction:
                    continue
                mean = score[:, x : x + width].mean(dtype=np.float64)
                fields.append(Field(y, start + x, height, width, float(mean)))
    return sorted(fields, key=lambda field: (-field.score, field.y, field.x))[:count]


def _score(probabilities, others: Sequence, where) -> np.ndarray:
    first = read_probabilities(probabilities, where)
    if not others:
        return entropy_nats(first)
    total, entropies = first.copy(), entropy_nats(first)
    for other in others:
        values = read_probabilities(other, where)
        total += values
        entropies += entropy_nats(values)
    models = len(others) + 1
    return entropy_nats(total / models) - entropies / models


def fields_geojson(
    fields: list[Field], placement: Placement, style: Style, score_name: str = "entropy (nats)"
) -> str:
    """A FeatureCollection of rectangular annotations for QuPath, ranked by name: "1", "2", ..."""
    features = []
    for rank, field in enumerate(fields, 1):
        y = np.array([field.y, field.y, field.y + field.height, field.y + field.height])
        x = np.array([field.x, field.x + field.width, field.x + field.width, field.x])
        features.append(
            {
                "type": "Feature",
                "id": rank,
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [json.loads(placement.rings(y, x, [0, 4])[0])],
                },
                "properties": {
                    "objectType": "annotation",
                    "classification": {"name": style.name, "color": list(style.color)},
                    "name": str(rank),
                    "measurements": {"rank": rank, score_name: field.score},
                },
            }
        )
    return json.dumps({"type": "FeatureCollection", "features": features}, allow_nan=False) + "\n"
