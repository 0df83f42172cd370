"""Ingestion: one annotated image, checked and stored as Zarr v3 with checksums."""

import os
from pathlib import Path

import numpy as np

from slideunet.annotations import IGNORE_CLASS
from slideunet.arrays import create_group, write_array
from slideunet.errors import UserError
from slideunet.images import Region, pixel_size_um, read_image
from slideunet.readers.omezarr import store_files
from slideunet.store import Work, make, sha256_of, sha256_of_file
from slideunet.training_labels import LabelSource, read_label


def ingest(*, image: str, label: str, manifest: str, settings: dict, code: dict) -> None:
    """Read an image and its label into ID.zarr beside the manifest results/images/ID.json.

    settings : the row of the training table (text; absent = not given) and `classes`, their names
    ID.zarr : image (C, Y, X) uint8, uint16 or float32; label (Y, X) int32, -1 not annotated, 0
        background; class (Y, X) uint8, 255 not annotated; attributes classes, channels, mpp_um
    facts : shape (C, Y, X), dtype, channels, classes, objects, pixels per class, not_annotated_px,
        mpp_um (None: unknown)
    """
    page = int(settings["page"]) if "page" in settings else None
    value = settings.get("ignore_value")
    source = LabelSource(
        path=label,
        label_type=settings.get("label_type", "auto"),
        page=page,
        ignore=settings.get("ignore"),
        ignore_value=None if value is None else int(value),
        annotated=settings.get("annotated"),
    )
    name = Path(manifest).stem
    classes = settings["classes"]

    def build(work: Work) -> tuple[list[str], dict]:
        picture = read_image(image, page, parse_region(settings.get("region")))
        label_image, class_image = read_label(source, picture, classes)
        mpp_um = pixel_size_um(picture, image, settings.get("mpp_um"))
        described = {"classes": classes, "channels": picture.channels, "mpp_um": mpp_um}
        group = create_group(work.folder / f"{name}.zarr", described)
        write_array(group, "image", picture.pixels, "CYX")
        write_array(group, "label", label_image, "YX")
        write_array(group, "class", class_image, "YX")
        counts = np.bincount(class_image.ravel(), minlength=256)
        return [f"{name}.zarr"], described | {
            "shape": list(picture.pixels.shape),
            "dtype": picture.pixels.dtype.name,
            "objects": int(np.count_nonzero(np.unique(label_image) > 0)),
            "pixels": {known: int(counts[index]) for index, known in enumerate(classes)},
            "not_annotated_px": int(counts[IGNORE_CLASS]),
        }

    inputs = {
        "image": image,
        "label": label,
        "ignore": source.ignore,
        "annotated": source.annotated,
    }
    given = {key: path for key, path in inputs.items() if path is not None}
    for path in given.values():
        check_readable(path)
    folders = {key: path for key, path in given.items() if Path(path).is_dir()}
    digests = {f"{key}_files": sha256_of_folder(path) for key, path in folders.items()}
    make(
        manifest,
        build,
        kind="ingest",
        settings=settings | digests,
        code=code,
        inputs={key: path for key, path in given.items() if key not in folders},
    )


def parse_region(text: str | None) -> Region | None:
    """ "y,x,height,width" as four integers."""
    if text is None:
        return None
    y, x, height, width = (int(number) for number in text.split(","))
    return y, x, height, width


def check_readable(path: str) -> None:
    """Raise UserError where there is no file or folder to be read: a pipe would block for ever."""
    if not (Path(path).is_file() or Path(path).is_dir()):
        raise UserError(f"{path}: no such file: correct the table of training images")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path}: no permission to read it")


def sha256_of_folder(folder: str) -> str:
    """One sha256 over the paths and contents of all files of a folder (an OME-Zarr)."""
    lines = [f"{sha256_of_file(Path(folder, name))}  {name}\n" for name in store_files(folder)]
    return sha256_of("".join(lines).encode())
