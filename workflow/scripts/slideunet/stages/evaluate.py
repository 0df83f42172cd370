"""Evaluation of one network on images that it was not trained on."""

from pathlib import Path

import numpy as np
import torch

from slideunet import model as models
from slideunet import normalise, store
from slideunet.arrays import open_group
from slideunet.device import choose_device
from slideunet.errors import UserError
from slideunet.evaluation import Counted, Shown, components, count, draw, pool
from slideunet.network import UNet
from slideunet.overlap_tile import prepare
from slideunet.store import Work, make
from slideunet.whole_image import predict_image


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
    settings : section `evaluate`: min_area_px (objects below it count neither way), averaging
        (over views: none, rotations, all)
    facts : measures of all images together under `pooled`, of each under `images`

    Truth is the image as annotated, without the separating line that the training's target has;
    what nobody annotated counts neither way. Prediction is the likeliest class, in float32.
    """
    options = settings["evaluate"]
    picture = f"{Path(manifest).stem}.png"

    def build(work: Work) -> tuple[list[str], dict]:
        network, description = models.load(model)
        network = prepare(network, choose_device(gpus), torch.float32)
        classes = description.classes
        counted: dict[str, Counted] = {}
        shown = []
        for path in images:
            name = Path(path).stem
            pixels, label, truth = read_truth(path)
            found = predict(network, description, pixels, options["averaging"])
            labelled = components(found)
            counted[name] = count(
                truth, found, label, labelled, len(classes), options["min_area_px"]
            )
            shown.append(Shown(name, pixels, label, labelled, counted[name].measures(classes)))
        facts = {
            "classes": classes,
            "images": {row.name: row.measures for row in shown},
            "pooled": pool(list(counted.values())).measures(classes),
        }
        draw(work.folder / picture, shown)
        return [picture], facts

    inputs = {"model": model, "images": images}
    make(manifest, build, kind="evaluate", settings=settings, code=code, inputs=inputs)


def read_truth(manifest: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey values (C, Y, X), instances (Y, X) int32 and classes (Y, X) uint8 of a stored image."""
    store.load(manifest)
    group = open_group(store.beside(manifest, f"{Path(manifest).stem}.zarr"))
    return group["image"][...], group["label"][...], group["class"][...]


def predict(
    network: UNet, description: models.Description, pixels: np.ndarray, averaging: str
) -> np.ndarray:
    """The likeliest class of each pixel, (Y, X) uint8."""
    if len(pixels) != description.channels:
        raise UserError(
            f"the model was trained on {description.channels} channels, the image has {len(pixels)}"
        )
    scaling = normalise.for_image(pixels, description.normalisation)
    found = predict_image(network, normalise.scale(pixels, scaling), averaging)
    return found.argmax(0).numpy().astype(np.uint8)
