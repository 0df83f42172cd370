"""A whole image through the network, for validation and evaluation: probabilities in memory."""

import copy

import numpy as np
import torch

from slideunet.averaging import VIEWS
from slideunet.errors import UserError
from slideunet.geometry import Window, padded_to_grid
from slideunet.network import UNet
from slideunet.overlap_tile import mirrored, predict_region, predict_tile, prepare

# Step between tiles, on the pooling grid of every depth up to 8. Twice the paper's: the context
# that is computed twice then costs little, and base 64 still fits in 2 GB.
TILE_PX = 768


def for_inference(
    network: UNet,
    weights: dict[str, torch.Tensor],
    device: torch.device,
    precision: torch.dtype,
) -> UNet:
    """A copy of the network with these weights, prepared for `predict_image`."""
    copied = copy.deepcopy(network)
    copied.load_state_dict(weights)
    return prepare(copied, device, precision)


def predict_image(network: UNet, image: np.ndarray, averaging: str = "none") -> torch.Tensor:
    """Class probabilities (classes, Y, X) float32 of a normalised image (C, Y, X) float32.

    `network` as overlap_tile.prepare returns it; `averaging` as in averaging.py. Raises UserError
    where the answer is NaN: the weights, or values on the way, were out of range.
    """
    height, width = image.shape[1:]
    if network.padded:
        return _checked(_predict_padded(network, image, averaging))

    def read(y: int, x: int, rows: int, columns: int) -> np.ndarray:
        return image[:, y : y + rows, x : x + columns]

    whole = Window(0, 0, height, width)
    found = predict_region(network, read, (height, width), whole, TILE_PX, averaging)
    return _checked(found)


def _predict_padded(network: UNet, image: np.ndarray, averaging: str) -> torch.Tensor:
    """A network of padded convolutions takes the image whole, as it is commonly run.

    Its zeros lie around the image then, which is mirrored up to a multiple of 2^depth.
    """
    height, width = image.shape[1:]
    rounded_yx = padded_to_grid(height, network.depth), padded_to_grid(width, network.depth)
    rows, columns = (
        mirrored(0, rounded, size)
        for rounded, size in zip(rounded_yx, (height, width), strict=True)
    )
    pixels = torch.from_numpy(image[:, rows[:, None], columns[None, :]])  # (C, Y', X')
    views = VIEWS[averaging]
    total = torch.zeros(network.classes, *rounded_yx)
    for turns, mirror in views:
        seen = torch.rot90(pixels.flip(2) if mirror else pixels, turns, dims=(1, 2))
        found = torch.rot90(predict_tile(network, seen).cpu(), -turns, dims=(1, 2))
        total += found.flip(2) if mirror else found
    return (total / len(views))[:, :height, :width]


def _checked(found: torch.Tensor) -> torch.Tensor:
    if not found.isfinite().all():
        raise UserError("the network's answer is not finite: the training diverged, do it anew")
    return found
