"""The weight map, exact, at several densities of cells, beside the ways that it is usually made."""

from pathlib import Path

import numpy as np
from turns import Prepared, Program, Stage

SIDE_PX = 4096
SMALL_PX = 256  # what a transform per cell sees: its time grows with pixels times cells
SPACING_PX = {"touching": 32, "dense": 43, "sparse": 160}  # a cell in each such square
_HERE = "stages.weight_map"


def stages() -> list[Stage]:
    programs = [
        Program(
            "ours",
            f"{SIDE_PX} px, {name}, {(SIDE_PX // s) ** 2} cells",
            f"{_HERE}:ours",
            {"side": SIDE_PX, "spacing": s},
        )
        for name, s in SPACING_PX.items()
    ]
    small = {"side": SMALL_PX, "spacing": SPACING_PX["dense"]}
    cells = (SMALL_PX // SPACING_PX["dense"]) ** 2
    programs += [
        Program("ours", f"{SMALL_PX} px, {cells} cells", f"{_HERE}:ours", small),
        Program(
            "peer",
            f"scipy, one transform per cell, {SMALL_PX} px, {cells} cells",
            f"{_HERE}:transforms",
            small,
        ),
        Program(
            "peer",
            f"scipy, k-d tree per cell's pixels, {SMALL_PX} px, {cells} cells",
            f"{_HERE}:trees",
            small,
        ),
        Program(
            "limit", "copy of as many bytes as go in and out", f"{_HERE}:copied", {"side": SIDE_PX}
        ),
    ]
    return [Stage("weight map (preset paper)", "CPU-ms/Mpx", programs)]


def cells(side: int, spacing: int) -> np.ndarray:
    """A disc of 8 to 17 px radius in each square, half a square off at most; (side, side) int32."""
    random = np.random.default_rng(0)
    label = np.zeros((side, side), np.int32)
    number = 0
    for y in range(spacing // 2, side, spacing):
        for x in range(spacing // 2, side, spacing):
            number += 1
            radius = int(random.integers(8, 18))
            cy, cx = np.array([y, x]) + random.integers(-spacing // 6, spacing // 6 + 1, 2)
            top, left = max(0, cy - radius), max(0, cx - radius)
            window = label[top : cy + radius + 1, left : cx + radius + 1]
            rows, columns = np.ogrid[top : top + window.shape[0], left : left + window.shape[1]]
            window[(rows - cy) ** 2 + (columns - cx) ** 2 <= radius**2] = number
    return label


def ours(folder: Path, side: int, spacing: int) -> Prepared:
    """From labels and classes to target and border map."""
    from slideunet.weights import resolve, weight_map

    label = cells(side, spacing)
    classes = (label > 0).astype(np.uint8)
    settings = resolve({"preset": "paper"})
    return lambda: weight_map(label, classes, settings), side**2 / 1e6


def transforms(folder: Path, side: int, spacing: int) -> Prepared:
    """As most implementations do: a distance transform of the image for each cell."""
    from scipy import ndimage

    label = cells(side, spacing)

    def work() -> np.ndarray:
        nearest = np.full((2, side, side), np.inf)
        for number in np.unique(label[label > 0]):
            distance = ndimage.distance_transform_edt(label != number)
            nearest[1] = np.minimum(nearest[1], np.maximum(nearest[0], distance))
            nearest[0] = np.minimum(nearest[0], distance)
        return _border(nearest, label)

    return work, side**2 / 1e6


def trees(folder: Path, side: int, spacing: int) -> Prepared:
    """A k-d tree for each cell's pixels, asked for the distance of pixels within reach."""
    from scipy.spatial import cKDTree

    label = cells(side, spacing)
    reach = 31.0

    def work() -> np.ndarray:
        nearest = np.full((2, side, side), np.inf)
        background = np.argwhere(label == 0)
        near = np.full((2, len(background)), np.inf)
        for number in np.unique(label[label > 0]):
            tree = cKDTree(np.argwhere(label == number))
            distance, _ = tree.query(background, distance_upper_bound=reach)
            near[1] = np.minimum(near[1], np.maximum(near[0], distance))
            near[0] = np.minimum(near[0], distance)
        nearest[:, background[:, 0], background[:, 1]] = near
        return _border(nearest, label)

    return work, side**2 / 1e6


def _border(nearest: np.ndarray, label: np.ndarray) -> np.ndarray:
    border = 10 * np.exp(-(nearest.sum(0) ** 2) / (2 * 5**2))
    border[label > 0] = 0
    return border.astype(np.float32)


def copied(folder: Path, side: int) -> Prepared:
    """Labels and classes in, target and border out: 10 bytes a pixel, half read, half written."""
    source, target = np.ones((2, 5 * side * side), np.uint8)
    return lambda: np.copyto(target, source), side**2 / 1e6
