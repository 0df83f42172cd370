"""Several networks as one: what they must have in common, and the mean of their answers."""

from collections.abc import Sequence

import numpy as np

from slideunet import normalise
from slideunet.errors import UserError
from slideunet.model import Description
from slideunet.network import UNet
from slideunet.whole_image import predict_image

# Pixel sizes of an ensemble's models that differ by less are the same.
MPP_TOLERANCE = 1e-3


def check_ensemble(models: list[str], descriptions: list[Description]) -> None:
    """Raise UserError unless all models take the same channels and pixel size, and name the same
    classes, and can be tiled.
    """
    first = descriptions[0]
    for path, description in zip(models, descriptions, strict=True):
        if description.architecture.get("padded"):
            raise UserError(f"{path}: a padded network is no overlap-tile network: leave it out")
        for key in ("channels", "classes"):
            if getattr(description, key) != getattr(first, key):
                raise UserError(
                    f"config: segment.models: {path} has {key} {getattr(description, key)}, "
                    f"{models[0]} has {getattr(first, key)}: only alike models can be averaged"
                )
        sizes = first.mpp_um, description.mpp_um
        if sizes[0] != sizes[1] and (None in sizes or abs(sizes[0] / sizes[1] - 1) > MPP_TOLERANCE):
            raise UserError(
                f"config: segment.models: {path} was trained at {sizes[1]} um, {models[0]} at "
                f"{sizes[0]} um: only models of one pixel size can be averaged"
            )


def predict(
    network: UNet, description: Description, pixels: np.ndarray, averaging: str
) -> np.ndarray:
    """The probability of each class, (classes, Y, X) float32."""
    if len(pixels) != description.channels:
        raise UserError(
            f"the model was trained on {description.channels} channels, the image has {len(pixels)}"
        )
    scaling = normalise.for_image(pixels, description.normalisation)
    return predict_image(network, normalise.scale(pixels, scaling), averaging).numpy()


def predict_mean(
    members: Sequence[tuple[UNet, Description]], pixels: np.ndarray, averaging: str
) -> np.ndarray:
    """The mean of the members' probabilities, (classes, Y, X) float32; see `predict`."""
    total = predict(*members[0], pixels, averaging)
    for member in members[1:]:
        total += predict(*member, pixels, averaging)
    return total / len(members)
