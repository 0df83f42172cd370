"""The overlap-tile strategy (figure 2): a region of any size, tile by tile, without seams.

Tile origins lie on the pooling grid of the whole image and each tile sees its real neighbours, so
the result is that of one pass over the whole image. Beyond the image the context is mirrored.
"""

from collections.abc import Callable

import numpy as np
import torch

from slideunet.averaging import is_symmetric, mean_over_views
from slideunet.geometry import Window, input_window, tiles
from slideunet.network import DoubleConvolution, UNet

ReadWindow = Callable[[int, int, int, int], np.ndarray]  # (y, x, height, width) -> (C, Y, X)


def mirrored(start: int, length: int, size: int) -> np.ndarray:
    """Indices of `length` pixels from `start`, mirrored at 0 and size - 1: numpy's `reflect`.

    The edge pixel is not repeated. A side of one pixel repeats that pixel. int64, shape (length,).
    """
    if size == 1:
        return np.zeros(length, dtype=np.int64)
    period = 2 * (size - 1)
    index = np.arange(start, start + length, dtype=np.int64) % period
    return np.minimum(index, period - index)


def real_window(window: Window, image_yx: tuple[int, int]) -> Window:
    """The smallest window inside the image that holds all pixels of the mirrored `window`."""
    rows = mirrored(window.y, window.height, image_yx[0])
    columns = mirrored(window.x, window.width, image_yx[1])
    y, x = int(rows.min()), int(columns.min())
    return Window(y, x, int(rows.max()) + 1 - y, int(columns.max()) + 1 - x)


def read_mirrored(read: ReadWindow, image_yx: tuple[int, int], window: Window) -> np.ndarray:
    """Read a window that may reach beyond the image; only real pixels are asked of `read`.

    Returns (C, window.height, window.width). The image has at least one pixel.
    """
    real = real_window(window, image_yx)
    pixels = read(*real)  # (C, real.height, real.width)
    if real == window:
        return pixels
    rows = mirrored(window.y, window.height, image_yx[0]) - real.y
    columns = mirrored(window.x, window.width, image_yx[1]) - real.x
    return pixels[:, rows[:, None], columns[None, :]]  # (C, Y, X)


def prepare(network: UNet, device: torch.device, precision: torch.dtype) -> UNet:
    """The network as inference wants it: on the device, evaluating, channels last, in `precision`.

    channels_last is the memory order of the fast convolution kernels on CPU and GPU. On a CPU
    each convolution takes its ReLU along: NaN in the input is then lost on the way.
    """
    for block in network.modules():
        if isinstance(block, DoubleConvolution):
            block.in_one_pass = True
    return network.to(device, dtype=precision, memory_format=torch.channels_last).eval()


def predict_region(
    network: UNet,
    read: ReadWindow,
    image_yx: tuple[int, int],
    region: Window,
    tile_px: int,
    averaging: str = "none",
) -> torch.Tensor:
    """Class probabilities of a region of an image: (classes, height, width) float32 on the CPU.

    Parameters
    ----------
    network : as `prepare` returns it; its device and precision are used
    read : gives the normalised image, float32 (C, Y, X), for a window inside the image
    image_yx : height and width of the whole image: where mirroring begins
    region : its origin must lie on the pooling grid
    tile_px : the step between tile origins, a multiple of 2^depth
    averaging : none, rotations or all (see averaging.py)

    Raises ValueError where `tile_px` or the region's origin is off the grid.
    """
    result = torch.empty((network.classes, region.height, region.width))
    for tile in tiles(region, tile_px, network.depth):
        window = input_window(tile, network.depth, is_symmetric(averaging))
        pixels = torch.from_numpy(
            np.ascontiguousarray(read_mirrored(read, image_yx, window), dtype=np.float32)
        )
        result[(slice(None), *tile.slices((region.y, region.x)))] = mean_over_views(
            lambda seen: predict_tile(network, seen),
            pixels,
            (tile.height, tile.width),
            network.depth,
            averaging,
        )
    return result


def predict_tile(network: UNet, pixels: torch.Tensor) -> torch.Tensor:
    """Softmax of one input tile: (C, Y, X) float32 -> (classes, Y - lost, X - lost) float32."""
    return torch.softmax(tile_scores(network, pixels), dim=0)


@torch.inference_mode()
def tile_scores(network: UNet, pixels: torch.Tensor) -> torch.Tensor:
    """Logits of one input tile: (C, Y, X) float32 -> (classes, Y - lost, X - lost) float32.

    The convolutions run in the network's precision, what follows in float32.
    """
    weight = network.score.weight
    x = pixels[None].to(weight.device, weight.dtype, non_blocking=True)  # (1, C, Y, X)
    return network(x.contiguous(memory_format=torch.channels_last))[0].float()
