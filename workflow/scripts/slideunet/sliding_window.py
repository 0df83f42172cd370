"""The network that the paper argues against: one pixel's class from the patch around it.

After Ciresan et al. (2012, table 1), whom the paper's introduction compares with: convolutions and
2x2 max poolings in turn, a fully connected layer, class scores. Kernels are chosen so that a patch
of 89 px halves evenly (89-86-43-40-20-16-8-6-3-1), which makes the context that of a U-Net of
depth 3: 44 px on each side, so that the tile arithmetic is the same. For the ablation only.
"""

import torch
from torch import nn
from torch.nn import functional

from slideunet.rectified import rectified

PATCH_PX = 89
# The depth whose context and pooling grid (geometry.py) fit this patch.
DEPTH = 3
KERNELS_PX = (4, 4, 5, 3)
# Of the fully connected layer, as Ciresan et al. have it.
HIDDEN = 200


class SlidingWindow(nn.Module):
    """Classifies the pixel in the middle of a patch of 89 px.

    `forward` takes a patch, pooling with stride 2, or a larger tile: then all of its patches at
    once, by poolings of stride 1 and convolutions whose taps are set apart in their place (Giusti
    et al. 2013). The answers are those of the patches one by one; the test holds it.

    `maps`: of each convolution (Ciresan et al.: 48). `dropout` of the fully connected layer.
    """

    padded = False
    depth = DEPTH

    def __init__(self, channels: int, classes: int, maps: int, dropout: float):
        super().__init__()
        self.channels, self.classes = channels, classes
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, maps, kernel_size=k)
            for a, k in zip([channels, *[maps] * 3], KERNELS_PX, strict=True)
        )
        self.connected = nn.Conv2d(maps, HIDDEN, kernel_size=3)
        self.drop = nn.Dropout(dropout)
        self.score = nn.Conv2d(HIDDEN, classes, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores: (B, channels, Y, X) -> (B, classes, Y - 88, X - 88)."""
        apart = 1  # pixels between two taps of a kernel
        stride = 2 if max(x.shape[-2:]) == PATCH_PX else 1
        for layer in self.convolutions:
            x = rectified(functional.conv2d(x, layer.weight, layer.bias, dilation=apart))
            x = functional.max_pool2d(x, 2, stride, dilation=apart)
            apart = apart * 2 // stride
        x = functional.conv2d(x, self.connected.weight, self.connected.bias, dilation=apart)
        return self.score(self.drop(rectified(x)))

    def output_px(self, input_px: int) -> int:
        """Side of the output for an input of this side; ValueError below one patch."""
        if input_px < PATCH_PX:
            raise ValueError(f"a tile of {input_px} px holds no patch of {PATCH_PX} px")
        return input_px - PATCH_PX + 1
