"""Geometry of training samples: elastic deformation, shift, rotation, scale, mirrors, in one map.

U-Net paper, section 3.1: displacements are drawn on a coarse 3 x 3 grid from a normal distribution
with a standard deviation of 10 px, per-pixel displacements come from bicubic interpolation. Here
a sample has one map from its pixels to places in the training image,

    place(p) = centre + shift + matrix p + displacement(p),    p measured from the tile's centre,

by which image, target and border map are all read: bilinear for grey values and weights, nearest
for classes. Beyond the image's border there is its mirror image (numpy's `reflect`: the edge pixel
is not repeated; section 3.1's overlap-tile does the same).

Random numbers are drawn on the CPU, before anything is asked of the device: the same generator
state gives the same geometry on every device, and nothing waits for the device.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Geometry(NamedTuple):
    """How a tile is read from its image."""

    displacement_px: Tensor  # (2, G, G) float64 on the CPU: y and x displacement of each node
    matrix: tuple[tuple[float, float], tuple[float, float]]  # tile to image: (yy, yx), (xy, xx)
    shift_px: tuple[float, float]  # y, x


class Sample(NamedTuple):
    """One tile to be read: a whole training image with its maps, and where."""

    image: Tensor  # (C, Y, X) any dtype
    target: Tensor  # (Y, X) uint8, on the same device
    border: Tensor  # (Y, X) float32, on the same device
    centre_px: tuple[float, float]  # y, x of the tile's centre; a pixel's centre is a whole number
    geometry: Geometry


IDENTITY = Geometry(torch.zeros(2, 2, 2, dtype=torch.float64), ((1.0, 0.0), (0.0, 1.0)), (0.0, 0.0))


def sample_geometry(generator: torch.Generator, settings: dict) -> Geometry:
    """A random geometry. generator: on the CPU; settings: section `augment`, a missing key is off.

    elastic_sigma_px: standard deviation of the displacements of the nodes, px.
    elastic_grid: nodes per side, the outer ones on the corners of the input tile.
    rotation_deg: rotation uniform within +- this. 180: any direction.
    scale: factor between 1 / (1 + scale) and 1 + scale, its logarithm uniform.
    shift_px: shift uniform within +- this, along each axis.
    flips: mirror each axis, and swap the axes, with probability 1/2: the square's 8 symmetries.
    The number of draws does not depend on what is off.
    """
    nodes = settings.get("elastic_grid", 3)
    displacement = torch.randn(2, nodes, nodes, generator=generator, dtype=torch.float64)
    draws = torch.rand(7, generator=generator, dtype=torch.float64).tolist()
    turn, stretch, shift_y, shift_x = (2 * draw - 1 for draw in draws[:4])
    angle = math.radians(settings.get("rotation_deg", 0)) * turn
    factor = (1 + settings.get("scale", 0)) ** stretch
    cosine, sine = factor * math.cos(angle), factor * math.sin(angle)
    columns = [(cosine, sine), (-sine, cosine)]  # where a step along y, along x leads to
    if settings.get("flips", False):
        signs = (1 if draw < 0.5 else -1 for draw in draws[4:6])
        columns = [(sign * y, sign * x) for (y, x), sign in zip(columns, signs, strict=True)]
        columns = columns[::-1] if draws[6] < 0.5 else columns
    reach = settings.get("shift_px", 0)
    return Geometry(
        displacement * settings.get("elastic_sigma_px", 0),
        tuple(zip(*columns, strict=True)),
        (reach * shift_y, reach * shift_x),
    )


@lru_cache(maxsize=16)
def spline_matrix(nodes: int, pixels: int) -> Tensor:
    """B (pixels, nodes) float64 on the CPU: B c B^T is the field through values c at the nodes.

    The first node lies on the first pixel, the last on the last one. The spline is the cubic
    B-spline that interpolates c, mirrored at the outer nodes: what scipy.ndimage.zoom(c,
    pixels / nodes, order=3) computes.
    """
    places = torch.linspace(0, nodes - 1, pixels, dtype=torch.float64)
    at_nodes = _spline_weights(torch.arange(nodes, dtype=torch.float64), nodes)
    return _spline_weights(places, nodes) @ torch.linalg.inv(at_nodes)


def _spline_weights(places: Tensor, nodes: int) -> Tensor:
    """(len(places), nodes): what the B-spline coefficient of each node adds to the spline."""
    weights = torch.zeros(len(places), nodes, dtype=torch.float64)
    which = torch.arange(len(places))
    for step in range(-1, 3):  # the four nodes less than 2 away
        node = places.floor() + step
        distance = (places - node).abs()
        near = 2 / 3 - distance**2 + distance**3 / 2
        far = (2 - distance) ** 3 / 6
        share = torch.where(distance < 1, near, far)
        node = nodes - 1 - (nodes - 1 - node.abs()).abs()
        weights.index_put_((which, node.long()), share, accumulate=True)
    return weights


@torch.no_grad()
def warp(samples: Sequence[Sample], input_px: int, output_px: int) -> tuple[Tensor, Tensor, Tensor]:
    """Read the tiles of a batch.

    The samples share device, number of channels and number of nodes. Returns on that device images
    (N, C, input_px, input_px) float32, targets (N, output_px, output_px) uint8 and borders
    (N, output_px, output_px) float32, the latter two for the window in the middle of the tile.
    With IDENTITY and a centre that puts pixels on pixels (for an even input_px half a pixel off a
    whole number) all values are the image's own, exactly.
    """
    places = _places(samples, input_px)
    edge = (input_px - output_px) // 2
    middle = places[:, edge : edge + output_px, edge : edge + output_px]
    outer = max(_farthest_px(sample.geometry, input_px, input_px) for sample in samples)
    inner = max(_farthest_px(sample.geometry, input_px, output_px) for sample in samples)
    centres = [sample.centre_px for sample in samples]
    images = _read([s.image for s in samples], centres, outer, _grid(places, outer), "bilinear")
    grid = _grid(middle, inner)
    borders = _read([s.border[None] for s in samples], centres, inner, grid, "bilinear")
    targets = _read([s.target[None] for s in samples], centres, inner, grid, "nearest")
    return images, targets[:, 0].to(torch.uint8), borders[:, 0]


def _places(samples: Sequence[Sample], pixels: int) -> Tensor:
    """Where each pixel is read: (N, pixels, pixels, 2) float32, x then y, as grid_sample wants it.

    In pixels from the whole pixel at or before the tile's centre: small numbers, so that float32
    resolves 1e-4 px. A sum of outer products (rows times columns), added one by one: a matrix
    product would be rounded to 10 bits where a training allows TF32 or runs under autocast.
    """
    device = samples[0].image.device
    nodes = samples[0].geometry.displacement_px.shape[-1]
    rows = torch.stack([_rows(sample, pixels) for sample in samples]).float()
    if device.type == "cuda":
        rows = rows.pin_memory()
    rows = rows.to(device, non_blocking=True)[..., None]
    columns = _columns(nodes, pixels, device)
    places = rows[:, :, 0] * columns[0]
    for k in range(1, len(columns)):
        places.addcmul_(rows[:, :, k], columns[k])
    return places.permute(0, 2, 3, 1)


def _rows(sample: Sample, pixels: int) -> Tensor:
    """The factors that depend on the tile's row: (2, nodes + 2, pixels) float64 on the CPU."""
    displacement, matrix, shift = sample.geometry
    basis = spline_matrix(displacement.shape[-1], pixels)
    along = torch.arange(pixels, dtype=torch.float64) - (pixels - 1) / 2
    axes = []
    for axis in (1, 0):  # x, y
        beyond = sample.centre_px[axis] - math.floor(sample.centre_px[axis])
        straight = along * matrix[axis][0] + (shift[axis] + beyond)
        slope = torch.full_like(along, matrix[axis][1])
        bent = (basis @ displacement[axis]).T
        axes.append(torch.cat([bent, straight[None], slope[None]]))
    return torch.stack(axes)


@lru_cache(maxsize=16)
def _columns(nodes: int, pixels: int, device: torch.device) -> Tensor:
    """The factors that depend on the tile's column: (nodes + 2, pixels) float32 on the device."""
    along = torch.arange(pixels, dtype=torch.float64) - (pixels - 1) / 2
    columns = [spline_matrix(nodes, pixels).T, torch.ones(1, pixels), along[None]]
    return torch.cat(columns).float().to(device)


def _farthest_px(geometry: Geometry, input_px: int, window_px: int) -> int:
    """A bound on how far from the tile's centre the window in its middle is read, along an axis."""
    displacement, matrix, shift = geometry
    bent = float(displacement.abs().max()) * _overshoot(displacement.shape[-1], input_px)
    straight = [
        (abs(line[0]) + abs(line[1])) * window_px / 2 + abs(s)
        for line, s in zip(matrix, shift, strict=True)
    ]
    return math.ceil(max(straight) + bent) + 2


@lru_cache(maxsize=16)
def _overshoot(nodes: int, pixels: int) -> float:
    """A bound on the ratio of the largest value of a field to that of its nodes."""
    return float(spline_matrix(nodes, pixels).abs().sum(1).max()) ** 2


def _half(reach_px: int) -> int:
    """Half the side of the buffer that _read copies so wide a patch into, a power of two."""
    return 2 ** (reach_px - 1).bit_length()


def _grid(places: Tensor, reach_px: int) -> Tensor:
    """The places in grid_sample's unit, which counts from -1 to 1 across the buffer of _read."""
    half = _half(reach_px)
    # In one pass: dividing by a power of two rounds nothing.
    return torch.add(torch.tensor(reach_px / half - 1), places, alpha=1 / half)


def _read(layers: list[Tensor], centres: list, reach_px: int, grid: Tensor, mode: str) -> Tensor:
    """Values of layers, each (C, Y, X), at the grid's places: (N, C, height, width) float32.

    From each image the patch around the centre is copied, mirrored where it reaches beyond, into a
    corner of a buffer with 2^k + 1 pixels a side, of which the rest is never looked at: for such
    sides, and no others, the coordinates of grid_sample are exact for whole pixels.
    """
    patch_px = 2 * reach_px + 1
    half = _half(reach_px)
    # 15 columns more than that, cut off again: rows a power of two apart, of which a rotated tile
    # reads many at a time, would share the same few lines of the processor's cache.
    shape = (len(layers), layers[0].shape[0], 2 * half + 1, 2 * half + 16)
    buffer = torch.empty(shape, dtype=torch.float32, device=grid.device)[..., :-15]
    for layer, centre, patch in zip(
        layers, centres, buffer[..., :patch_px, :patch_px], strict=True
    ):
        _copy_patch(layer, [math.floor(along) - reach_px for along in centre], patch)
    return F.grid_sample(buffer, grid, mode=mode, padding_mode="border", align_corners=True)


def _copy_patch(layer: Tensor, start: list[int], patch: Tensor) -> None:
    """Fill patch (C, height, width) from layer at start (y, x), mirrored beyond the layer's edges.

    The patch's middle lies inside the layer: so either it sees all of the layer along an axis, or
    no more is missing at one end than what is known beside it.
    """
    inside = []
    for dim, first in enumerate(start, start=1):
        known = max(0, -first), min(patch.shape[dim], layer.shape[dim] - first)
        inside.append(known)
        layer = layer.narrow(dim, first + known[0], known[1] - known[0])
    (top, bottom), (left, right) = inside
    patch[:, top:bottom, left:right] = layer
    _mirror_outwards(patch[:, top:bottom], 2, left, right)
    _mirror_outwards(patch, 1, top, bottom)


def _mirror_outwards(patch: Tensor, dim: int, first: int, stop: int) -> None:
    """Fill patch outside first : stop along dim with mirror images of what is inside."""
    if stop - first == 1:  # one pixel is its own mirror image
        patch.copy_(patch.narrow(dim, first, 1).expand_as(patch).clone())
        return
    while first > 0:
        count = min(first, stop - first - 1)
        patch.narrow(dim, first - count, count).copy_(patch.narrow(dim, first + 1, count).flip(dim))
        first -= count
    while stop < patch.shape[dim]:
        count = min(patch.shape[dim] - stop, stop - first - 1)
        patch.narrow(dim, stop, count).copy_(patch.narrow(dim, stop - 1 - count, count).flip(dim))
        stop += count
