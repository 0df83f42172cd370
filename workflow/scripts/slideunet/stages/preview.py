"""What the networks see in images that nobody annotated: pictures, no figures."""

from pathlib import Path

import numpy as np
import torch

from slideunet import model as models_on_disk
from slideunet.device import choose_device
from slideunet.ensemble import check_ensemble, predict_mean
from slideunet.evaluation import components
from slideunet.folder_inputs import files_and_digests
from slideunet.images import ImageFile, for_training
from slideunet.overlap_tile import prepare
from slideunet.parameters import from_text
from slideunet.picture_grid import draw_grid
from slideunet.pictures import overlay, to_rgb
from slideunet.stages.ingest import check_readable, parse_region
from slideunet.store import Work, make


def preview(
    *,
    models: list[str],
    images: list[str],
    manifest: str,
    settings: dict | str,
    code: dict,
    gpus: int,
) -> None:
    """Segment images without truth; makes evaluation/unlabelled.json and unlabelled.png.

    models : manifests of stage train, averaged; images : the files that the rows name
    settings : `rows`, id -> row of the table `unlabelled` (text; absent = not given), `averaging`;
        as they are, or by parameters.as_text

    A row of the picture has the image, the probability of anything but the background (white:
    certain), and the outlines of the connected components of each class.
    """
    settings = from_text(settings)
    picture = f"{Path(manifest).stem}.png"

    def build(work: Work) -> tuple[list[str], dict]:
        loaded = [models_on_disk.load(path) for path in models]
        check_ensemble(models, [description for _, description in loaded])
        device = choose_device(gpus)
        members = [(prepare(net, device, torch.float32), about) for net, about in loaded]
        rows, objects = [], {}
        for name, row in settings["rows"].items():
            pixels = read(row)
            found = predict_mean(members, pixels, settings["averaging"])
            labelled = components(found.argmax(0).astype(np.uint8))
            objects[name] = int(labelled.max())
            rgb, certain = to_rgb(pixels), to_rgb(1 - found[:1], 0, 1)
            titles = name, f"mean of {len(members)} networks", f"{objects[name]} objects"
            pictures = rgb, certain, overlay(rgb, labelled)
            rows.append(list(zip(titles, pictures, strict=True)))
        draw_grid(work.folder / picture, rows)
        return [picture], {"objects": objects}

    for path in images:
        check_readable(path)
    named = {f"image_{number:04d}": path for number, path in enumerate(images)}
    files, digests = files_and_digests(named)
    inputs = {"models": models, **files}
    make(manifest, build, kind="preview", settings=settings | digests, code=code, inputs=inputs)


def read(row: dict) -> np.ndarray:
    """The pixels (C, Y, X) of a row."""
    sizes = {key: float(row[key]) for key in ("mpp_um", "to_mpp_um") if key in row}
    page = int(row["page"]) if "page" in row else None
    with ImageFile(row["image"], page, **sizes) as file:
        picture = file.read(file.region_of(parse_region(row.get("region"))))
    return for_training(row["image"], picture).pixels
