"""What a training is given, annotated images as arrays, and what it gives back."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from slideunet.errors import UserError
from slideunet.loss import IGNORE


@dataclass(frozen=True)
class AnnotatedImage:
    """One image to train or validate on.

    image : (C, Y, X) float32, normalised
    target : (Y, X) uint8 class, 255 where nobody annotated
    border : (Y, X) float32 border term of the weight map
    """

    name: str
    image: np.ndarray
    target: np.ndarray
    border: np.ndarray


@dataclass(frozen=True)
class Trained:
    """The averaged weights at the end and at the best validation, and one row per validation."""

    last: dict[str, torch.Tensor]
    best: dict[str, torch.Tensor]
    best_step: int
    history: list[dict]


def fingerprint(
    images: Sequence[AnnotatedImage],
    validation: Sequence[AnnotatedImage],
    settings: dict,
    class_weights: Sequence[float],
) -> str:
    """A digest of everything that shapes a training; how long it pauses does not."""
    content = hashlib.sha256(
        json.dumps([settings, [float(w) for w in class_weights]], sort_keys=True).encode()
    )
    for image in [*images, *validation]:
        for array in (image.image, image.target, image.border):
            content.update(repr((array.shape, array.dtype.str)).encode())
            content.update(np.ascontiguousarray(array))
    return content.hexdigest()


def check_images(
    training: Sequence[AnnotatedImage], validation: Sequence[AnnotatedImage], classes: int
) -> None:
    """Raise UserError where there is nothing to learn from, or images that do not fit together."""
    images = [*training, *validation]
    if not training:
        raise UserError("train: no image to train on")
    for image in images:
        if image.image.shape[1:] != image.target.shape or image.border.shape != image.target.shape:
            raise UserError(f"{image.name}: image, target and border differ in shape")
        if len(image.image) != len(images[0].image):
            raise UserError(
                f"{image.name}: {len(image.image)} channels, {images[0].name} has "
                f"{len(images[0].image)}: train on images of one kind"
            )
        if not (np.isfinite(image.image).all() and np.isfinite(image.border).all()):
            raise UserError(f"{image.name}: holds grey values or weights that are NaN or infinite")
        wrong = (image.target >= classes) & (image.target != IGNORE)
        if wrong.any():
            raise UserError(
                f"{image.name}: class {image.target[wrong][0]} where there are {classes} classes"
            )
    if all((image.target == IGNORE).all() for image in training):
        raise UserError("train: not one pixel of the training images is annotated")
