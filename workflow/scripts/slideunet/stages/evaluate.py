"""Evaluation of one network on images that it was not trained on."""

from pathlib import Path

import numpy as np
import torch

from slideunet import model as models
from slideunet import store
from slideunet.arrays import open_group
from slideunet.challenge import Evaluated, measure
from slideunet.device import choose_device
from slideunet.ensemble import predict
from slideunet.evaluation import Counted, Shown, components, count, draw, pool
from slideunet.network import UNet
from slideunet.overlap_tile import prepare
from slideunet.store import Work, make


def evaluate(
    *,
    model: str,
    images: list[str],
    manifest: str,
    settings: dict,
    code: dict,
    gpus: int,
) -> None:
    """Measure a model; makes results/evaluation/NAME.json (the manifest) and NAME.png.

    model : manifest of stage train; images : manifests of stage ingest
    settings : section `evaluate`: min_area_px (objects below it count neither way), averaging (a
        list of ways over views: none, rotations, all), measures (names of challenge.MEASURES)
    facts : for each way of averaging the measures of all images together under `pooled`, of each
        under `images`. The picture shows the last way.

    Truth is the image as annotated, without the separating line that the training's target has;
    what nobody annotated counts neither way. Prediction is the likeliest class, in float32.
    """
    options = settings["evaluate"]
    picture = f"{Path(manifest).stem}.png"

    def build(work: Work) -> tuple[list[str], dict]:
        network, description = models.load(model)
        network = prepare(network, choose_device(gpus), torch.float32)
        facts = {"classes": description.classes, "averaging": {}}
        for averaging in options["averaging"]:
            measures, shown = _measure(network, description, images, averaging, options)
            facts["averaging"][averaging] = measures
        draw(work.folder / picture, shown)
        return [picture], facts

    inputs = {"model": model, "images": images}
    make(manifest, build, kind="evaluate", settings=settings, code=code, inputs=inputs)


def _measure(
    network: UNet,
    description: models.Description,
    images: list[str],
    averaging: str,
    options: dict,
) -> tuple[dict, list[Shown]]:
    """The figures of one way of averaging, and what to show of it."""
    classes = description.classes
    counted: list[Counted] = []
    evaluated, shown = [], []
    for path in images:
        name = Path(path).stem
        pixels, label, truth = read_truth(path)
        probabilities = predict(network, description, pixels, averaging)
        found = probabilities.argmax(0).astype(np.uint8)
        labelled = components(found)
        counted.append(count(truth, found, label, labelled, len(classes), options["min_area_px"]))
        evaluated.append(Evaluated(name, label, truth, 1 - probabilities[0], labelled))
        shown.append(Shown(name, pixels, label, labelled, counted[-1].measures(classes)))
    pooled = pool(counted).measures(classes) | measure(options["measures"], evaluated)
    return {"images": {row.name: row.measures for row in shown}, "pooled": pooled}, shown


def read_truth(manifest: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey values (C, Y, X), instances (Y, X) int32 and classes (Y, X) uint8 of a stored image."""
    store.load(manifest)
    group = open_group(store.beside(manifest, f"{Path(manifest).stem}.zarr"))
    return group["image"][...], group["label"][...], group["class"][...]
