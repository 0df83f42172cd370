"""Elastic deformation of one training tile of 572 px, three channels, with label and weights."""

from pathlib import Path

import numpy as np
from turns import Prepared, Program, Stage

TILE_PX, IMAGE_PX = 572, 1024
SIGMA_PX, NODES = 10, 3
_HERE = "stages.augment"


def stages() -> list[Stage]:
    return [
        Stage(
            f"elastic tile of {TILE_PX} px, 3 channels, label, weights",
            "CPU-ms",
            [
                Program("ours", "ours: displacement, rotation, mirrors", f"{_HERE}:ours"),
                Program(
                    "ours",
                    "the same, label and weights of the 388 px that are learnt from",
                    f"{_HERE}:ours",
                    {"output_px": 388},
                ),
                Program(
                    "peer",
                    "scipy, cubic field, map_coordinates of order 3, 0 (label)",
                    f"{_HERE}:scipy_cubic",
                ),
                Program(
                    "peer",
                    "MONAI Rand2DElastic, bilinear, nearest (label)",
                    f"{_HERE}:monai_elastic",
                ),
                Program(
                    "peer",
                    "cv2.remap, bilinear, nearest (label), the field by ours",
                    f"{_HERE}:opencv",
                ),
                Program("limit", "copy of the tile's values", f"{_HERE}:copied"),
            ],
        )
    ]


def _layers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (3, Y, X) float32, label (Y, X) uint8, weights (Y, X) float32."""
    random = np.random.default_rng(0)
    image = random.random((3, IMAGE_PX, IMAGE_PX), dtype=np.float32)
    return image, (image[0] > 0.5).astype(np.uint8), image[1].copy()


def ours(folder: Path, output_px: int = TILE_PX) -> Prepared:
    """Drawing the deformation included."""
    import torch
    from slideunet.elastic import Sample, sample_geometry, warp

    torch.set_num_threads(1)
    layers = [torch.from_numpy(layer) for layer in _layers()]
    generator = torch.Generator().manual_seed(0)
    settings = {
        "elastic_grid": NODES,
        "elastic_sigma_px": SIGMA_PX,
        "rotation_deg": 180,
        "flips": True,
    }
    centre = IMAGE_PX / 2 + 0.5, IMAGE_PX / 2 + 0.5

    def work() -> None:
        warp([Sample(*layers, centre, sample_geometry(generator, settings))], TILE_PX, output_px)

    return work, 1


def _field(random: np.random.Generator) -> np.ndarray:
    """Displacements (2, TILE_PX, TILE_PX) by scipy's spline."""
    from scipy.ndimage import zoom

    nodes = random.normal(0, SIGMA_PX, (2, NODES, NODES))
    return np.stack([zoom(one, TILE_PX / NODES, order=3, mode="mirror") for one in nodes])


def _crop() -> list[np.ndarray]:
    start = (IMAGE_PX - TILE_PX) // 2
    return [layer[..., start : start + TILE_PX, start : start + TILE_PX] for layer in _layers()]


def scipy_cubic(folder: Path) -> Prepared:
    from scipy.ndimage import map_coordinates

    image, label, weights = (np.ascontiguousarray(layer) for layer in _crop())
    random, grid = np.random.default_rng(0), np.indices((TILE_PX, TILE_PX))

    def work() -> None:
        places = grid + _field(random)
        for channel in (*image, weights):
            map_coordinates(channel, places, order=3, mode="mirror")
        map_coordinates(label, places, order=0, mode="mirror")

    return work, 1


def monai_elastic(folder: Path) -> Prepared:
    import torch
    from monai.transforms import Rand2DElastic

    torch.set_num_threads(1)
    image, label, weights = (torch.from_numpy(np.ascontiguousarray(x)) for x in _crop())
    spacing = (TILE_PX // (NODES - 1),) * 2
    elastic = Rand2DElastic(spacing, (SIGMA_PX, SIGMA_PX), prob=1.0, padding_mode="reflection")
    elastic.set_random_state(0)
    smooth = torch.cat([image, weights[None]])

    def work() -> None:
        elastic(smooth, mode="bilinear")
        elastic(label[None].float(), mode="nearest", randomize=False)

    return work, 1


def opencv(folder: Path) -> Prepared:
    import cv2
    import torch
    from slideunet.elastic import spline_matrix

    cv2.setNumThreads(1)
    image, label, weights = _crop()
    smooth = np.ascontiguousarray(np.moveaxis(np.concatenate([image, weights[None]]), 0, -1))
    label = np.ascontiguousarray(label)
    basis = spline_matrix(NODES, TILE_PX).float().numpy()
    random = np.random.default_rng(0)
    rows, columns = np.indices((TILE_PX, TILE_PX)).astype(np.float32)
    torch.set_num_threads(1)

    def work() -> None:
        nodes = random.normal(0, SIGMA_PX, (2, NODES, NODES)).astype(np.float32)
        y, x = (
            base + basis @ one @ basis.T for base, one in zip((rows, columns), nodes, strict=True)
        )
        cv2.remap(smooth, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        cv2.remap(label, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)

    return work, 1


def copied(folder: Path) -> Prepared:
    source, target = np.ones((2, TILE_PX * TILE_PX * (4 * 4 + 1)), np.uint8)
    return lambda: np.copyto(target, source), 1
