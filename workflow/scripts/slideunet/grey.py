"""Grey-value variation of training tiles: gamma, contrast, brightness, blur, noise.

For grey values scaled so that most lie within 0 .. 1. Random numbers are drawn on the CPU, but
those of the noise, whose generator lives on the tiles' device and is seeded from the CPU: the same
generator state gives the same tiles on the same device, and nothing waits for the device.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Grey(NamedTuple):
    """How the grey values of one tile are changed, the first three per channel."""

    exponent: tuple[float, ...]
    factor: tuple[float, ...]
    offset: tuple[float, ...]
    blur_px: float  # standard deviation of a Gaussian, 0: none
    noise: float  # standard deviation, 0: none
    noise_seed: int


def sample_grey(generator: torch.Generator, settings: dict, channels: int) -> Grey:
    """A random change. generator: on the CPU; settings: section `augment`, a missing key is off.

    gamma: logarithm of the exponent uniform within +- this.
    contrast: factor uniform within 1 +- this.
    brightness: offset uniform within +- this.
    These for each channel on its own: stains and fluorophores vary independently of each other.
    blur_px, noise: standard deviation of the Gaussian blur, and of the noise, uniform from 0 to
    this. The number of draws does not depend on what is off.
    """
    draws = (2 * torch.rand(3, channels, generator=generator, dtype=torch.float64) - 1).tolist()
    blur, noise = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    seed = int(torch.randint(2**62, (1,), generator=generator))
    return Grey(
        tuple(math.exp(settings.get("gamma", 0) * draw) for draw in draws[0]),
        tuple(1 + settings.get("contrast", 0) * draw for draw in draws[1]),
        tuple(settings.get("brightness", 0) * draw for draw in draws[2]),
        settings.get("blur_px", 0) * blur,
        settings.get("noise", 0) * noise,
        seed,
    )


@torch.no_grad()
def vary_grey(images: Tensor, greys: Sequence[Grey]) -> Tensor:
    """Change images (N, C, Y, X) float32 in place, one Grey each, and return them.

    In this order, as the light passes: blur; gamma, sign(v) |v|^exponent (scaled values can lie
    below 0); contrast about the channel's mean in the tile, and brightness: mean + factor
    (v - mean) + offset; noise. Without any of them (as with all settings 0) a value stays as it is.
    """
    for image, grey in zip(images, greys, strict=True):
        if grey.blur_px > 0:
            image.copy_(_blurred(image, grey.blur_px))
        for channel, exponent, factor, offset in zip(
            image, grey.exponent, grey.factor, grey.offset, strict=True
        ):
            if exponent != 1:
                torch.copysign(channel.abs().pow_(exponent), channel, out=channel)
            if factor != 1:
                # mean + factor (v - mean), without a second pass and without asking for the mean
                channel.lerp_(channel.mean(), 1 - factor)
            if offset != 0:
                channel.add_(offset)
        if grey.noise > 0:
            generator = torch.Generator(image.device).manual_seed(grey.noise_seed)
            noise = torch.empty_like(image).normal_(generator=generator)
            image.add_(noise, alpha=grey.noise)
    return images


def _blurred(image: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur of (C, Y, X), mirrored beyond the edge, cut off at 3 sigma."""
    radius = min(math.ceil(3 * sigma_px), min(image.shape[-2:]) - 1)
    kernel = [math.exp(step**2 / (-2 * sigma_px**2)) for step in range(-radius, radius + 1)]
    for dim in (1, 2):
        size = image.shape[dim]
        margin = (radius, radius) if dim == 2 else (0, 0, radius, radius)
        padded = F.pad(image[None], (*margin, *(0,) * (4 - len(margin))), mode="reflect")[0]
        # Shifted and added: torch's convolution of single channels is ten times slower on a CPU.
        image = torch.zeros_like(image)
        for start, share in enumerate(kernel):
            image.add_(padded.narrow(dim, start, size), alpha=share / sum(kernel))
    return image
