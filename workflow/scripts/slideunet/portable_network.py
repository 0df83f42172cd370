"""A network as other programs run it: TorchScript and ONNX that need nothing of this workflow.

Other programs cut an image into tiles, run each, crop a halo off and lay the rest side by side. The
unpadded network's own sizes (572 -> 388) do not fit that scheme, so `Portable` takes tiles whose
sides are multiples of 2^depth and answers with as many pixels: the network's output where it has
one, zeros in the halo, which is to be cropped. Halo and sides are multiples of 2^depth, so tiles
that are laid side by side see the same pooling grid as one pass over the whole image.

Needs: torch; the package onnx to write ONNX.
"""

import warnings
from pathlib import Path

import torch
from torch import nn

from slideunet import geometry
from slideunet.errors import UserError
from slideunet.network import UNet
from slideunet.sliding_window import SlidingWindow

INPUT, OUTPUT = "image", "probability"
# Runtimes since 2022 read it.
OPSET = 17


def halo_px(depth: int) -> int:
    """What is to be cropped from each side of an answer: 6 * 2^depth at most depths (paper: 96).

    The context of the unpadded convolutions and the slack that rounds it to the pooling grid.
    """
    return geometry.context_px(depth) + geometry.slack_px(depth)


def smallest_px(depth: int) -> int:
    """The smallest side of a tile; longer ones by steps of 2^depth (paper: 208, 224, ...)."""
    return 2 * halo_px(depth) + geometry.grid_px(depth)


class Portable(nn.Module):
    """Scaled grey values (B, C, Y, X) -> class probabilities (B, classes, Y, X), float32.

    Y and X are at least smallest_px(depth), and multiples of 2^depth. Raises UserError for a padded
    network: it sees the whole image at once, and has no halo that tiles could have.
    """

    def __init__(self, network: UNet | SlidingWindow):
        super().__init__()
        if network.padded:
            raise UserError(
                "a network of padded convolutions (network.padded) has no valid tiles to describe: "
                "train one with network.padded: false to export it"
            )
        self.network = network
        self.cut = geometry.slack_px(network.depth)
        self.end = -self.cut or None
        self.around = (halo_px(network.depth),) * 4

    def forward(self, grey: torch.Tensor) -> torch.Tensor:
        """See the class."""
        # The network's grid begins `context` before the pixels that stay.
        scores = self.network(grey[..., self.cut :, self.cut :])[..., : self.end, : self.end]
        return nn.functional.pad(torch.softmax(scores, dim=1), self.around)  # (B, classes, Y, X)


def write(network: UNet | SlidingWindow, torchscript: Path, onnx: Path) -> None:
    """Write the network (float32, on the CPU, evaluating) in both formats, for tiles of any size.

    Both come from one trace. PyTorch 2.13 calls tracing, and the exporter that takes traces, old;
    what they write is what readers of such packages read, see docs/dependencies.md.
    """
    portable = Portable(network).eval()
    side = smallest_px(network.depth)
    tile = torch.zeros(1, network.channels, side, side)
    free = {0: "batch", 2: "y", 3: "x"}
    # With gradients on, layers take the ways that every device has (pooling.py, rectified.py).
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(portable, tile, check_trace=False)
        torch.jit.save(traced, str(torchscript))
        torch.onnx.export(
            traced,
            (tile,),
            str(onnx),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: free, OUTPUT: free},
        )
