"""The loss of the U-Net paper: the pixel-weighted cross entropy of the softmax."""

import torch
from torch.nn.functional import cross_entropy

IGNORE = 255  # target of pixels that nobody annotated


def weighted_cross_entropy(
    scores: torch.Tensor, target: torch.Tensor, border: torch.Tensor, weight_of: torch.Tensor
) -> torch.Tensor:
    """Equation 1, a scalar in float32: sum of w(x) (-log p of the true class) / number of pixels.

    Parameters
    ----------
    scores : (B, classes, Y, X), of any precision
    target : (B, Y, X) int64 class, 255 where nobody annotated: such pixels weigh nothing
    border : (B, Y, X) float32 border term; w(x) = weight_of[target] + border
    weight_of : (256,) float32, w_c of each class (what stands at 255 does not matter)

    All pixels count in the divisor, annotated or not. A constant divisor leaves the paper's energy
    (a sum over pixels) as it is but for one factor: each annotated pixel pulls with its own weight,
    whichever tile it comes in. Divided by the sum of a tile's weights, the few annotated pixels of
    one tile would pull as hard as all of another, borders would pull less the more of them a tile
    holds, and a tile without annotation would be 0 / 0.
    """
    entropy = cross_entropy(scores.float(), target, ignore_index=IGNORE, reduction="none")
    return (entropy * (weight_of[target] + border)).sum() / target.numel()
