"""A slide of a gigapixel as an Aperio scanner writes it: tiled JPEG, a pyramid, glass and tissue.

The tissue is one pattern of violet nuclei on pink, repeated; the glass one tile: both are encoded
once and written many times, so that the file is made within seconds.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

TILE_PX = 256
PATTERN_PX = 2048
MPP_UM = 0.5
GLASS = (243, 241, 244)
QUALITY = 90


def pattern(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Tissue: RGB (Y, X, 3) uint8 and its nuclei (Y, X) uint16, PATTERN_PX a side."""
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(seed)
    label = np.zeros((PATTERN_PX, PATTERN_PX), np.uint16)
    spacing = 32
    number = 0
    for y in range(spacing // 2, PATTERN_PX, spacing):
        for x in range(spacing // 2, PATTERN_PX, spacing):
            centre_y, centre_x = np.array([y, x]) + random.integers(-4, 5, 2)
            radius = int(random.integers(6, 11))
            rows = np.arange(centre_y - radius, centre_y + radius + 1)[:, None]
            columns = np.arange(centre_x - radius, centre_x + radius + 1)[None]
            inside = (rows - centre_y) ** 2 + (columns - centre_x) ** 2 < radius**2
            number += 1
            label[rows, columns] = np.where(inside, number, label[rows, columns])
    stain = gaussian_filter((label > 0).astype(np.float32), 1, mode="wrap")[..., None]
    pink, violet = np.array((228, 178, 206)), np.array((96, 58, 146))
    texture = gaussian_filter(random.normal(0, 40, label.shape), 2, mode="wrap")[..., None]
    rgb = pink + (violet - pink) * stain + texture
    return np.clip(rgb, 0, 255).astype(np.uint8), label


def tissue_cells(side_px: int) -> np.ndarray:
    """Which squares of PATTERN_PX are tissue: a disc of a third of the slide. bool (n, n)."""
    count = side_px // PATTERN_PX
    y, x = np.indices((count, count)) - (count - 1) / 2
    return y**2 + x**2 <= count**2 / 3 / np.pi


def write_slide(path: Path, side_px: int) -> float:
    """Write a square slide with levels of 1, 1/4 and 1/16; returns its share of tissue."""
    cells = tissue_cells(side_px)
    tissue, _ = pattern()
    about = (
        f"Aperio Image Library v12.0\r\n{side_px}x{side_px} ({TILE_PX}x{TILE_PX}) JPEG/RGB "
        f"Q={QUALITY}|AppMag = 20|MPP = {MPP_UM}"
    )
    options = {
        "dtype": np.uint8, "photometric": "rgb", "compression": "jpeg", "tile": (TILE_PX, TILE_PX),
        "metadata": None, "description": about,
    }  # fmt: skip
    smallest = whole(cells, tissue, 16)
    with tifffile.TiffWriter(path, bigtiff=False) as file:
        file.write(tiles(cells, tissue), shape=(side_px, side_px, 3), **options)
        file.write(smallest[::2, ::2], photometric="rgb", metadata=None, description=about)
        quarter = side_px // 4
        file.write(tiles(cells, shrunk(tissue, 4)), shape=(quarter, quarter, 3), **options)
        file.write(smallest, **options)
    return float(cells.mean())


def shrunk(rgb: np.ndarray, factor: int) -> np.ndarray:
    """The mean of each square of `factor` pixels."""
    height, width = (side // factor for side in rgb.shape[:2])
    squares = rgb.reshape(height, factor, width, factor, 3)
    return np.rint(squares.mean(axis=(1, 3))).astype(np.uint8)


def whole(cells: np.ndarray, tissue: np.ndarray, factor: int) -> np.ndarray:
    """The slide at 1 / factor, as an array."""
    small = shrunk(tissue, factor)
    glass = np.full_like(small, GLASS)
    return np.block([[[small if cell else glass] for cell in row] for row in cells])


def tiles(cells: np.ndarray, tissue: np.ndarray) -> Iterator[bytes]:
    """Encoded tiles of a level, row by row; `tissue`: the pattern at its resolution."""
    per_cell = len(tissue) // TILE_PX
    glass = encoded(np.full((TILE_PX, TILE_PX, 3), GLASS, np.uint8))
    parts = [
        [
            encoded(tissue[y * TILE_PX :][:TILE_PX, x * TILE_PX :][:, :TILE_PX])
            for x in range(per_cell)
        ]
        for y in range(per_cell)
    ]
    for row in range(len(cells) * per_cell):
        for column in range(len(cells) * per_cell):
            there = cells[row // per_cell, column // per_cell]
            yield parts[row % per_cell][column % per_cell] if there else glass


def encoded(tile: np.ndarray) -> bytes:
    """One tile as JPEG, stored as red, green and blue."""
    import imagecodecs

    tile = np.ascontiguousarray(tile)
    return imagecodecs.jpeg8_encode(tile, QUALITY, colorspace="RGB", outcolorspace="RGB")
