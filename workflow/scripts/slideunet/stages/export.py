"""A trained network as a package that other programs take: bioimage.io."""

import os
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import tifffile
import torch

from slideunet import held_out, pictures, portable_network, store
from slideunet import model as models
from slideunet.arrays import open_group
from slideunet.errors import UserError
from slideunet.geometry import grid_px, padded_to_grid
from slideunet.overlap_tile import mirrored
from slideunet.store import Work, make

# Of the test image what is left after cropping, at least.
SHOWN_PX = 192
NEEDED = ("bioimageio.core", "onnx", "onnxruntime")


def export(
    *,
    model: str,
    image: str,
    evaluation: str,
    manifest: str,
    settings: dict,
    code: dict,
) -> None:
    """Make results/export/NAME.json (the manifest) and NAME.zip, a bioimage.io model package.

    model : manifest of stage train, with its model card beside it
    image : manifest of stage ingest; its middle is test input and cover
    evaluation : manifest of stage evaluate, whose figures the package's documentation tells
    settings : section `publication`: authors, license
    facts : halo, sizes, and the largest differences of TorchScript and ONNX to the network, as
        bioimageio.core computes them from the finished package

    The package is published only if bioimageio.spec finds it valid and bioimageio.core makes the
    test output from the test input. Raises UserError where the packages that it takes are missing.
    """
    _check_packages()
    from slideunet import model_package

    name = Path(manifest).stem

    def build(work: Work) -> tuple[list[str], dict]:
        network, description = models.load(model)
        pixels = middle_tile(image, network.depth)
        scaled = model_package.as_described(pixels, description.normalisation)
        files = work.folder / "files"
        files.mkdir(exist_ok=True)
        _write_files(files, model, network, pixels, answer(network, scaled))
        told = model_package.Described(
            name=name,
            description=description,
            depth=network.depth,
            parameters=sum(each.numel() for each in network.parameters()),
            publication=settings["publication"],
            measured=store.load(evaluation)["facts"],
            tested_on=held_out.tested_on(store.load(model)["inputs"]),
            trained=datetime.fromtimestamp(os.stat(model).st_mtime, tz=UTC),
        )
        package = work.folder / f"{name}.zip"
        model_package.write(told, files, package)
        facts = {
            "halo_px": portable_network.halo_px(network.depth),
            "smallest_px": portable_network.smallest_px(network.depth),
            "step_px": grid_px(network.depth),
            "largest_difference": model_package.check(package, files),
        }
        return [package.name], facts

    inputs = {"model": model, "image": image, "evaluation": evaluation}
    make(manifest, build, kind="export", settings=settings, code=code, inputs=inputs)


def _write_files(
    folder: Path, model: str, network: torch.nn.Module, pixels: np.ndarray, found: np.ndarray
) -> None:
    """All that the package holds but its description and documentation."""
    for name in ("model.safetensors", "model.json"):
        (folder / name).write_bytes(store.beside(model, name).read_bytes())
    portable_network.write(network, folder / "weights.pt", folder / "weights.onnx")
    for name, values in (("input", pixels), ("output", found)):
        np.save(folder / f"test_{name}.npy", values[None])
        tifffile.imwrite(folder / f"sample_{name}.tif", values, metadata=None)
    halo_px = portable_network.halo_px(network.depth)
    pictures.write_png(folder / "cover.png", cover(pixels, found, halo_px))


def middle_tile(image: str, depth: int) -> np.ndarray:
    """Grey values (C, Y, X) float32 of the middle of a stored image, mirrored where it is small."""
    store.load(image)
    pixels = open_group(store.beside(image, f"{Path(image).stem}.zarr"))["image"][...]
    side = 2 * portable_network.halo_px(depth) + padded_to_grid(SHOWN_PX, depth)
    rows, columns = (mirrored((size - side) // 2, side, size) for size in pixels.shape[1:])
    return np.ascontiguousarray(pixels[:, rows[:, None], columns[None, :]], dtype=np.float32)


def answer(network: torch.nn.Module, scaled: np.ndarray) -> np.ndarray:
    """The network's probabilities (classes, Y, X) of scaled grey values (C, Y, X), both float32."""
    with torch.inference_mode():
        return portable_network.Portable(network)(torch.from_numpy(scaled)[None])[0].numpy()


def cover(pixels: np.ndarray, found: np.ndarray, halo_px: int) -> np.ndarray:
    """The test image beside what the network sees in it: uint8 (Y, 2 Y, 3), without the halo."""
    inside = np.s_[:, halo_px:-halo_px, halo_px:-halo_px]
    low, high = pictures.contrast(pixels[inside])
    grey = pictures.to_rgb(pixels[inside], low, high)
    seen = np.repeat(np.uint8(255 * (1 - found[inside][0]))[..., None], 3, axis=2)
    return np.concatenate([grey, seen], axis=1)


def _check_packages() -> None:
    missing = [name for name in NEEDED if not _is_there(name)]
    if missing:
        raise UserError(
            f"export needs {', '.join(missing)}, not installed here: call `make export`, or "
            "pip install -r envs/requirements-export.txt"
        )


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # the package around it
        return False
