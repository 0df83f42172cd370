"""A whole image through the network, for validation and evaluation: probabilities in memory."""

import copy

import numpy as np
import torch

from slideunet.errors import UserError
from slideunet.geometry import Window
from slideunet.network import UNet
from slideunet.overlap_tile import predict_region, prepare

# Step between tiles, on the pooling grid of every depth up to 8. Twice the paper's tiles: the
# mirrored or doubly computed context then costs little, and base 64 still fits in 2 GB.
TILE_PX = 768

# Quarter turns and mirroring of each view. The paper averaged 7 rotated versions of the input
# (section 4); a square has 8 that need no interpolation.
VIEWS = {
    "none": [(0, False)],
    "rotations": [(turns, False) for turns in range(4)],
    "all": [(turns, mirror) for mirror in (False, True) for turns in range(4)],
}


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

    `network` as overlap_tile.prepare returns it. `averaging` (none, rotations, all) is the mean
    over views of the image: turned by quarters, and mirrored.

    Raises UserError where the answer is NaN: the weights, or values on the way, were out of range.
    """
    views = VIEWS[averaging]
    total = torch.zeros((network.classes, *image.shape[1:]))
    for turns, mirror in views:
        view = np.rot90(image[:, :, ::-1] if mirror else image, turns, axes=(1, 2))
        view = np.ascontiguousarray(view)
        found = torch.rot90(_predict(network, view), -turns, dims=(1, 2))
        total += found.flip(2) if mirror else found
    if not total.isfinite().all():
        raise UserError("the network's answer is not finite: the training diverged, do it anew")
    return total / len(views)


def _predict(network: UNet, image: np.ndarray) -> torch.Tensor:
    height, width = image.shape[1:]

    def read(y: int, x: int, rows: int, columns: int) -> np.ndarray:
        return image[:, y : y + rows, x : x + columns]

    whole = Window(0, 0, height, width)
    return predict_region(network, read, (height, width), whole, TILE_PX)
