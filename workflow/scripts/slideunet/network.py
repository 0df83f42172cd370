"""The U-Net of Ronneberger, Fischer and Brox (2015), figure 1, in one file.

Unpadded 3x3 convolutions with ReLU, 2x2 max pooling, channels doubled at each of `depth` steps;
2x2 up-convolutions that halve them, each followed by ReLU; centred crops of the skip connections;
concatenation [up-sampled, skip]; a final 1x1 convolution to the classes. With the paper's values
(depth 4, base 64, 1 channel, 2 classes): 23 convolutional layers, 31,030,658 parameters.
"""

import math

import torch
from torch import nn

from slideunet.geometry import output_px
from slideunet.pooling import pooled
from slideunet.rectified import one_pass, rectified
from slideunet.sliding_window import SlidingWindow


class DoubleConvolution(nn.Module):
    """Two 3x3 convolutions, each followed by ReLU (figure 1, blue arrows).

    `padded` keeps the size by zero padding: for the ablation only, it is not the paper's network.
    `in_one_pass` is for inference (rectified.py): the same numbers in less time.
    """

    in_one_pass = False

    def __init__(self, channels_in: int, channels_out: int, padded: bool = False):
        super().__init__()
        padding = 1 if padded else 0
        self.first = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=padding)
        self.second = nn.Conv2d(channels_out, channels_out, kernel_size=3, padding=padding)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.in_one_pass:
            return one_pass(self.second, one_pass(self.first, x))
        x = rectified(self.first(x))  # (B, C_out, Y - 2, X - 2)
        return rectified(self.second(x))  # (B, C_out, Y - 4, X - 4)


class UNet(nn.Module):
    """Contracting path, bottom, expansive path, class scores.

    Parameters
    ----------
    channels, classes : image channels in, class scores out (paper: 1 and 2)
    depth : number of poolings (paper: 4)
    base_channels : feature channels of the first level (paper: 64)
    dropout : probability of dropping a feature, after the last ReLU of the two deepest levels, in
        training only (section 3.1: "drop-out layers at the end of the contracting path"; the
        authors' network definition has ratio 0.5 at the levels of 512 and 1024 channels)
    padded, narrow_expansion : variants for the ablations; False is the paper's network.
        `narrow_expansion` carries only class scores in the expansive path, as a fully
        convolutional network (Long et al. 2015) does: the paper argues for many feature channels.
    """

    def __init__(
        self,
        channels: int = 1,
        classes: int = 2,
        depth: int = 4,
        base_channels: int = 64,
        dropout: float = 0.5,
        padded: bool = False,
        narrow_expansion: bool = False,
    ):
        super().__init__()
        self.channels, self.classes, self.depth, self.padded = channels, classes, depth, padded
        width = [base_channels * 2**level for level in range(depth + 1)]  # 64 ... 1024
        back = [classes] * depth if narrow_expansion else width[:-1]
        self.down = nn.ModuleList(
            DoubleConvolution(a, b, padded)
            for a, b in zip([channels, *width[:-2]], width[:-1], strict=True)
        )
        self.bottom = DoubleConvolution(width[-2], width[-1], padded)
        below = [*back[1:], width[-1]]  # channels that come up to level 0, 1, ..., depth - 1
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a, b, kernel_size=2, stride=2)
            for a, b in zip(below, back, strict=True)
        )
        self.join = nn.ModuleList(
            DoubleConvolution(b + skip, b, padded) for b, skip in zip(back, width[:-1], strict=True)
        )
        self.score = nn.Conv2d(back[0], classes, kernel_size=1)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores (logits): (B, channels, Y, X) -> (B, classes, Y - lost, X - lost).

        `lost` is geometry.lost_px(depth): 572 -> 388 at depth 4.
        """
        skips = []
        for level, block in enumerate(self.down):
            x = block(x)  # (B, base * 2^level, Y - 4, X - 4)
            if level == self.depth - 1:
                x = self.drop(x)
            skips.append(x)
            x = pooled(x)  # (B, base * 2^level, Y / 2, X / 2)
        x = self.drop(self.bottom(x))  # (B, base * 2^depth, Y - 4, X - 4)
        for up, join, skip in zip(
            reversed(self.up), reversed(self.join), reversed(skips), strict=True
        ):
            x = rectified(up(x))  # (B, C / 2, 2 Y, 2 X)
            x = torch.cat([x, crop_to(skip, x)], dim=1)  # (B, C, 2 Y, 2 X)
            x = join(x)  # (B, C / 2, 2 Y - 4, 2 X - 4)
        return self.score(x)  # (B, classes, Y, X)

    def output_px(self, input_px: int) -> int:
        """Side of the output for an input of this side; ValueError where it is not admitted."""
        return input_px if self.padded else output_px(input_px, self.depth)


def crop_to(skip: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The centre of `skip` (B, C, Y, X) with the height and width of `like`."""
    y = (skip.shape[-2] - like.shape[-2]) // 2
    x = (skip.shape[-1] - like.shape[-1]) // 2
    return skip[..., y : y + like.shape[-2], x : x + like.shape[-1]]


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights from N(0, sqrt(2 / N)), N the incoming nodes of one neuron; biases 0.

    Section 3: N = 9 C_in for a 3x3 convolution, C_in for a 1x1 one. Each output pixel of a 2x2
    up-convolution of stride 2 is fed by one input pixel, so N = C_in there too.
    """
    for layer in network.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            incoming = layer.in_channels
        elif isinstance(layer, nn.Conv2d):
            incoming = layer.in_channels * math.prod(layer.kernel_size)
        else:
            continue
        nn.init.normal_(layer.weight, std=math.sqrt(2 / incoming), generator=generator)
        nn.init.zeros_(layer.bias)


def build(settings: dict, channels: int, classes: int) -> UNet | SlidingWindow:
    """The network of a config section `network` or of a model card's `architecture`."""
    if settings.get("sliding_window", False):
        return SlidingWindow(channels, classes, settings["base_channels"], settings["dropout"])
    return UNet(
        channels=channels,
        classes=classes,
        depth=settings["depth"],
        base_channels=settings["base_channels"],
        dropout=settings["dropout"],
        padded=settings.get("padded", False),
        narrow_expansion=settings.get("narrow_expansion", False),
    )
