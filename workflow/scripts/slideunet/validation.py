"""Validation: a network on the held-out images of its training."""

from collections.abc import Callable, Sequence

import numpy as np

from slideunet.loss import IGNORE
from slideunet.metrics.pixels import class_iou, confusion, wrong_share
from slideunet.network import UNet
from slideunet.training_data import AnnotatedImage
from slideunet.whole_image import predict_image


def validate(
    network: UNet, images: Sequence[AnnotatedImage], should_stop: Callable[[], bool]
) -> dict[str, float] | None:
    """IoU (mean over the foreground classes) and pixel error, all images together.

    `network` as overlap_tile.prepare returns it. None if asked to stop between two images.
    """
    counts = 0
    for image in images:
        if should_stop():
            return None
        found = predict_image(network, image.image)
        classes = found.argmax(0).numpy().astype(np.uint8)
        counts = counts + confusion(image.target, classes, len(found), image.target == IGNORE)
    return {
        "validation_iou": float(class_iou(counts)[1:].mean()),
        "validation_pixel_error": wrong_share(counts),
    }
