"""Training of one network from stored images and weight maps."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from slideunet import curves, held_out, model, normalise, ranks
from slideunet.arrays import open_group
from slideunet.device import choose_device
from slideunet.errors import UserError
from slideunet.job import Stopped, stop_requested
from slideunet.store import Work, beside, load, make, sha256_of_file
from slideunet.training import Trained
from slideunet.training import train as train_network
from slideunet.training_data import AnnotatedImage
from slideunet.weights import class_weights, resolve

log = logging.getLogger("unet-slides")

# Pixel sizes that differ by less are one microscope's.
MPP_TOLERANCE = 0.02


def train(
    *,
    images: list[str],
    weights: list[str],
    validation_images: list[str],
    validation_weights: list[str],
    manifest: str,
    settings: dict,
    code: dict,
    gpus: int,
    start: str | list = (),
) -> None:
    """Train on `images` and put the model beside the manifest results/models/NAME/train.json.

    images, weights : manifests of stages ingest and weights, in the same order
    settings : sections network, intensity, weights, augment, train and the list classes
    start : manifest or card of a model whose weights the training goes on from; empty: none
    model.safetensors : the averaged weights, at the end or at the best validation (train.keep);
        the other ones are in best.safetensors or last.safetensors
    history.tsv, curves.png : loss, learning rate and validation over the steps
    model.json, events/ : model card and TensorBoard files, not listed in the manifest: they name
        the code and the time, and those shall not make an equal model a new one
    facts : model.Description, and the steps

    Raises Stopped once a signal asked for it and the state is saved; the same call then goes on.
    """
    inputs = {
        "images": images,
        "weights": weights,
        "validation_images": validation_images,
        "validation_weights": validation_weights,
        **({"start": [start]} if start else {}),
    }

    def build(work: Work) -> tuple[list[str], dict]:
        description = describe(images, settings)
        device = choose_device(gpus)
        processes = check_processes(settings["train"], gpus)
        told = {**inputs, "settings": settings, "normalisation": description.normalisation}
        told["start"] = read_start(start, description)
        # DDP hands the leader's weights to the others
        others = {k: v for k, v in told.items() if k != "start"}
        others |= {"folder": str(work.folder), "gpu": bool(gpus)}
        with ranks.lead(processes, __name__, others) as rank:
            trained = _run(work, told, device, rank)
        return _write(work, trained, description, settings, code, inputs)

    make(manifest, build, kind="train", settings=settings, code=code, inputs=inputs)


def assist(
    *,
    images: list[str],
    weights: list[str],
    validation_images: list[str],
    validation_weights: list[str],
    settings: dict,
    normalisation: dict,
    folder: str,
    gpu: bool,
    ranks: ranks.Ranks,
) -> None:
    """Compute this process's share of a training that another process leads (ranks.lead).

    folder : with the checkpoints, which are read and not written; others as `train` has them
    """
    torch.set_num_threads(settings["train"]["threads"])
    device = torch.device("cuda", ranks.rank) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    train_network(
        read_images(images, weights, normalisation, settings["train"]),
        read_images(validation_images, validation_weights, normalisation, settings["train"]),
        settings=settings,
        class_weights=class_weights(total_counts(weights), resolve(settings["weights"])),
        folder=Path(folder),
        device=device,
        ranks=ranks,
    )


def check_processes(train: dict, gpus: int) -> int:
    """How many processes share each step; UserError where there are not as many GPUs."""
    if gpus and gpus != train["processes"]:
        raise UserError(
            f"train.processes is {train['processes']}, but the job has {gpus} GPUs: one for each "
            "process is needed; on Slurm ask for them in the profile (set-resources: train: gpu)"
        )
    return train["processes"]


def _run(work: Work, told: dict, device: torch.device, rank: ranks.Ranks) -> Trained:
    """Train, with event files as it goes. `told` is what `assist` is told too."""
    settings, scaling = told["settings"], told["normalisation"]
    counts = total_counts(told["weights"])
    events = curves.Events(work.folder / "events")

    def on_row(row: dict) -> None:
        work.check_owner()
        events.add(row)

    try:
        trained = train_network(
            read_images(told["images"], told["weights"], scaling, settings["train"]),
            read_images(
                told["validation_images"], told["validation_weights"], scaling, settings["train"]
            ),
            settings=settings,
            class_weights=class_weights(counts, resolve(settings["weights"])),
            folder=work.folder,
            device=device,
            should_stop=stop_requested,
            on_row=on_row,
            ranks=rank,
            start=told["start"],
        )
    finally:
        events.close()
    if trained is None:
        raise Stopped(f"training saved its state in {work.folder}")
    return trained


def _write(
    work: Work,
    trained: Trained,
    description: model.Description,
    settings: dict,
    code: dict,
    inputs: dict[str, list[str]],
) -> tuple[list[str], dict]:
    """Weights, card, table and curves."""
    weights = {"last": trained.last, "best": trained.best}
    keep = settings["train"]["keep"]
    other = "best" if keep == "last" else "last"
    digest = model.save_weights(work.folder / model.WEIGHTS, weights[keep])
    model.save_weights(work.folder / f"{other}.safetensors", weights[other])
    facts = {
        **description.as_json(),
        "steps": settings["train"]["steps"],
        "best_step": trained.best_step,
        "weights_of": keep,
    }
    model.write_card(
        work.folder / "model.json",
        description,
        digest,
        training={"settings": settings, "best_step": trained.best_step, "weights_of": keep},
        data={key: [sha256_of_file(Path(path)) for path in paths] for key, paths in inputs.items()},
        code=code,
    )
    curves.write_table(work.folder / "history.tsv", trained.history)
    name = work.manifest.parent.name
    curves.draw(work.folder / "curves.png", trained.history, name, held_out.tested_on(inputs))
    work.unlisted += ["model.json", "events"]
    return [model.WEIGHTS, f"{other}.safetensors", "history.tsv", "curves.png"], facts


def describe(images: list[str], settings: dict) -> model.Description:
    """What the model has to say of itself, from the manifests of its training images."""
    facts = [load(manifest)["facts"] for manifest in images]
    for manifest, fact in zip(images, facts, strict=True):
        if fact["shape"][0] != facts[0]["shape"][0]:
            raise UserError(
                f"{manifest}: {fact['shape'][0]} channels, {images[0]} has "
                f"{facts[0]['shape'][0]}: train on images of one kind"
            )
    return model.Description(
        architecture=settings["network"],
        channels=facts[0]["shape"][0],
        classes=settings["classes"],
        normalisation=normalise.of_training(_pixels(images), settings["intensity"]),
        mpp_um=_common_mpp_um([fact["mpp_um"] for fact in facts]),
    )


def read_start(path: str | list, description: model.Description) -> dict[str, torch.Tensor]:
    """The weights that a training of `description` goes on from; none where `path` is empty.

    Of a model with other classes all but the last layer is taken. Raises UserError where the
    network or the channels differ.
    """
    if not path:
        return {}
    network, found = model.load(path)
    if found.channels != description.channels:
        raise UserError(
            f"config: train.start_from: {path}: takes {found.channels} channels, the training "
            f"images have {description.channels}: start from a model of the same channels"
        )
    for key, value in _shape(description).items():
        its = _shape(found)[key]
        if its != value:
            raise UserError(
                f"config: train.start_from: {path}: has {key} {its}, this training {value}: "
                f"set network.{key}: {json.dumps(its)}"
            )
    for key in ("scope", "low_percentile", "high_percentile"):
        if found.normalisation[key] != description.normalisation[key]:
            log.warning(
                "%s was trained with intensity.%s %s, this training has %s",
                path, key, found.normalisation[key], description.normalisation[key],
            )  # fmt: skip
    weights = network.state_dict()
    if found.classes != description.classes:
        log.info("%s knows other classes: the last layer begins anew", path)
        weights = {k: v for k, v in weights.items() if not k.startswith("score.")}
    return weights


def _shape(description: model.Description) -> dict:
    """What two networks must agree in to share weights."""
    known = description.architecture
    return {
        "depth": known["depth"],
        "base_channels": known["base_channels"],
        "padded": known.get("padded", False),
        "narrow_expansion": known.get("narrow_expansion", False),
        "sliding_window": known.get("sliding_window", False),
    }


def read_images(
    images: list[str], weights: list[str], normalisation: dict, train: dict
) -> list[AnnotatedImage]:
    """The stored images, scaled, with their targets and border terms times train.border_factor."""
    read = []
    for image, maps, pixels in zip(images, weights, _pixels(images), strict=True):
        load(maps)
        group = open_group(beside(maps, f"{Path(maps).stem}.zarr"))
        scaling = normalise.for_image(pixels, normalisation)
        read.append(
            AnnotatedImage(
                name=Path(image).stem,
                image=normalise.scale(pixels, scaling),
                target=group["target"][...],
                border=group["border"][...] * np.float32(train["border_factor"]),
            )
        )
    return read


def total_counts(weights: list[str]) -> np.ndarray:
    """Pixels per class of all training images together, int64 (classes,)."""
    return np.sum([load(manifest)["facts"]["counts"] for manifest in weights], axis=0)


def _pixels(images: list[str]) -> Iterable[np.ndarray]:
    """The grey values (C, Y, X) of one image after the other."""
    for manifest in images:
        load(manifest)
        yield open_group(beside(manifest, f"{Path(manifest).stem}.zarr"))["image"][...]


def _common_mpp_um(sizes: list[float | None]) -> float | None:
    """The images' pixel size, None where one is unknown or they differ."""
    if None in sizes:
        return None
    if max(sizes) > min(sizes) * (1 + MPP_TOLERANCE):
        log.warning("the training images' pixel sizes differ: the model's is left unknown")
        return None
    return float(np.mean(sizes))


if __name__ == "__main__":
    ranks.follow(assist)
