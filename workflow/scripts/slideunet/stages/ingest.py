"""Ingestion: one annotated image, checked and stored as Zarr v3 with checksums."""

import os
from functools import cache
from pathlib import Path

import numpy as np

from slideunet import annotations
from slideunet.annotations import IGNORE_CLASS
from slideunet.arrays import create_group, write_array
from slideunet.cutting import MARGIN_PX, Piece, stacked, windows_around
from slideunet.errors import UserError
from slideunet.folder_inputs import files_and_digests
from slideunet.images import ImageFile, Picture, Region, for_training, pixel_size_um
from slideunet.store import Work, make
from slideunet.training_labels import LabelSource, check_classes, label_of, regions_of


def ingest(*, image: str, label: str, manifest: str, settings: dict, code: dict) -> None:
    """Read an image and its label into ID.zarr beside the manifest results/images/ID.json.

    settings : the row of the training table (text; absent = not given) and `classes`, their names
    ID.zarr : image (C, Y, X) uint8, uint16 or float32; label (Y, X) int32, -1 not annotated, 0
        background; class (Y, X) uint8, 255 not annotated; attributes classes, channels, mpp_um
    facts : shape (C, Y, X), dtype, channels, classes, objects, pixels per class, not_annotated_px,
        mpp_um (None: unknown), windows (y, x, height, width) that were cut from the picture

    Where the row names no region and the annotations do (`Region*` outlines, column annotated),
    these are cut out with a margin and stacked (cutting.py).
    """
    source = label_source(label, settings)
    name = Path(manifest).stem
    classes = settings["classes"]

    def build(work: Work) -> tuple[list[str], dict]:
        found, picture, windows = read_row(image, source, settings)
        pixels, label_image, class_image = found
        wanted = settings.get("to_mpp_um")
        mpp_um = float(wanted) if wanted else pixel_size_um(picture, image, settings.get("mpp_um"))
        described = {"classes": classes, "channels": picture.channels, "mpp_um": mpp_um}
        group = create_group(work.folder / f"{name}.zarr", described)
        write_array(group, "image", pixels, "CYX")
        write_array(group, "label", label_image, "YX")
        write_array(group, "class", class_image, "YX")
        counts = np.bincount(class_image.ravel(), minlength=256)
        return [f"{name}.zarr"], described | {
            "shape": list(pixels.shape),
            "dtype": pixels.dtype.name,
            "objects": int(np.count_nonzero(np.unique(label_image) > 0)),
            "pixels": {known: int(counts[index]) for index, known in enumerate(classes)},
            "not_annotated_px": int(counts[IGNORE_CLASS]),
            "windows": [list(window) for window in windows],
        }

    inputs = {"image": image, "label": label}
    inputs |= {key: getattr(source, key) for key in ("ignore", "annotated", "silver")}
    given = {key: path for key, path in inputs.items() if path is not None}
    for path in given.values():
        check_readable(path)
    files, digests = files_and_digests(given)
    make(manifest, build, kind="ingest", settings=settings | digests, code=code, inputs=files)


def label_source(label: str, row: dict) -> LabelSource:
    """The label as the row of the training table gives it."""
    value = row.get("ignore_value")
    return LabelSource(
        path=label,
        label_type=row.get("label_type", "auto"),
        page=int(row["page"]) if "page" in row else None,
        ignore=row.get("ignore"),
        ignore_value=None if value is None else int(value),
        annotated=row.get("annotated"),
        silver=row.get("silver"),
    )


def read_row(
    image: str, source: LabelSource, row: dict
) -> tuple[Piece, Picture, list[tuple[int, int, int, int]]]:
    """Pixels, label and classes of a row, one of its pictures, and the windows it was cut from."""
    sizes = {key: float(row[key]) for key in ("mpp_um", "to_mpp_um") if key in row}
    read_outlines = cache(annotations.read_outlines)  # as long as this row
    with ImageFile(image, source.page, **sizes) as file:
        windows = [file.region_of(parse_region(row.get("region")))]
        regions = regions_of(source, file, read_outlines) if "region" not in row else []
        if regions:
            windows = windows_around(regions, file.whole_yx, MARGIN_PX)
            if not windows:
                raise UserError(f"{image}: all annotated regions lie beyond the picture")
        pieces = []
        for window in windows:
            picture = for_training(image, file.read(window))
            labels = label_of(source, picture, row["classes"], read_outlines)
            pieces.append((picture.pixels, *labels))
    found = stacked(pieces)
    check_classes(source, found[2], row["classes"])
    return found, picture, windows


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
