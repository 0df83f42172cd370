"""A slide's pixels as tensors: kept in their own type, mirrored beyond the slide, made float32."""

from typing import NamedTuple

import numpy as np
import torch

from slideunet.geometry import Window
from slideunet.overlap_tile import mirrored, real_window


class Pixels(NamedTuple):
    """Part of the slide in memory: (C, Y, X), and where its first pixel lies."""

    values: torch.Tensor
    y: int
    x: int


def kept_dtype(dtype: np.dtype) -> np.dtype:
    """How pixels are kept until they are scaled: 8 and 16 bits as they are, others as float32."""
    dtype = np.dtype(dtype)
    return dtype if dtype in (np.uint8, np.uint16) else np.dtype(np.float32)


def crop_mirrored(pixels: Pixels, window: Window, image_yx: tuple[int, int]) -> torch.Tensor:
    """(C, window.height, window.width): the window, mirrored beyond the image (numpy's reflect)."""
    values = pixels.values
    if real_window(window, image_yx) == window:
        return values[(slice(None), *window.slices((pixels.y, pixels.x)))]
    # Torch moves few uint16: the same bytes as int16.
    values = values.view(torch.int16) if values.dtype == torch.uint16 else values
    spans = (window.y, window.height, pixels.y), (window.x, window.width, pixels.x)
    for dim, (start, length, first), size in zip((1, 2), spans, image_yx, strict=True):
        values = torch.cat(
            [
                values.narrow(dim, low - first, count).flip(dim if backwards else ())
                for low, count, backwards in runs(mirrored(start, length, size))
            ],
            dim,
        )
    return values.view(pixels.values.dtype)


def runs(index: np.ndarray) -> list[tuple[int, int, bool]]:
    """Mirrored indices as runs (lowest, count, backwards), which are copied at once."""
    found, first = [], 0
    while first < len(index):
        steps = np.diff(index[first:])
        step = int(steps[0]) if len(steps) else 0
        turns = np.flatnonzero(steps != step)
        count = 1 + (int(turns[0]) if len(turns) else len(steps)) if step else 1
        found.append((int(index[first : first + count].min()), count, step < 0))
        first += count
    return found


def as_float(values: torch.Tensor) -> torch.Tensor:
    """float32 of any of the kept types, as a copy."""
    if values.dtype == torch.uint16:  # few kernels take uint16: read its bits as int16
        return values.contiguous().view(torch.int16).to(torch.int32).bitwise_and_(0xFFFF).float()
    return values.to(torch.float32, copy=True)
