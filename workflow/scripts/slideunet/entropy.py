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
    every_px: int = 1,
) -> list[Field]:
    """The `count` fields of a square grid with the highest mean score, best first.

    `probabilities`: array-like (C, Y, X) uint8 or float, of any level. The score is the predictive
    entropy; with the maps of further models in `others` it is their disagreement, the entropy of
    the mean less the mean entropy (BALD: Houlsby et al. 2011, arXiv:1112.5745). `tissue`:
    array-like (Y, X), not 0 where there is tissue: fields with a smaller share than
    `tissue_fraction` are left out, and where none is left nothing is read. Fields cut by the
    slide's edge are left out, unless the slide is smaller than one. `every_px`: only every n-th row
    and column is scored, n the largest number up to it that divides the field's sides; the mean
    stays that of the pixels, while a coarse level of the pyramid, a mean of probabilities, looks
    unsure along every border. Raises SlideError for NaN or maps that differ in shape.
    """
    shape = tuple(probabilities.shape)
    for name, array in (*(("another model's map", o) for o in others), ("tissue", tissue)):
        wanted = shape[1:] if name == "tissue" else shape
        if array is not None and tuple(array.shape) != wanted:
            raise SlideError(f"{name} is {tuple(array.shape)}, the probabilities {shape}")
    height, width = min(field_px, shape[1]), min(field_px, shape[2])
    if min(height, width) < 1:
        return []
    every = next(n for n in range(every_px, 0, -1) if height % n == width % n == 0)
    step = width * max(1, READ_PX // width)
    fields = []
    for y in range(0, shape[1] - height + 1, height):
        for start in range(0, shape[2] - width + 1, step):
            end = start + min(step, (shape[2] - start) // width * width)
            where = np.s_[y : y + height, start:end]
            wanted = np.ones((end - start) // width, bool)
            if tissue is not None:
                covered = (np.asarray(tissue[where]) != 0).reshape(height, -1, width)
                wanted = covered.mean(axis=(0, 2)) >= tissue_fraction
            if not wanted.any():
                continue
            score = _score(probabilities, others, where, every)
            means = score.reshape(len(score), -1, width // every).mean(axis=(0, 2), dtype=float)
            fields += [
                Field(y, start + int(n) * width, height, width, float(means[n]))
                for n in np.flatnonzero(wanted)
            ]
    return sorted(fields, key=lambda field: (-field.score, field.y, field.x))[:count]


def _score(probabilities, others: Sequence, where, every: int) -> np.ndarray:
    first = read_probabilities(probabilities, where, every)
    if not others:
        return entropy_nats(first)
    total, entropies = first.copy(), entropy_nats(first)
    for other in others:
        values = read_probabilities(other, where, every)
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
