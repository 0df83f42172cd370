"""Pictures of one slide's objects: outlines on the thumbnail and its densest fields, density."""

import math
from pathlib import Path

import numpy as np
from PIL import Image

from slideunet import store
from slideunet.arrays import open_group
from slideunet.density_picture import draw_density
from slideunet.pictures import framed, to_rgb, write_jpeg, write_png
from slideunet.pictures import overlay as draw_outlines
from slideunet.slide_array import SlideArray, open_array, scale_of
from slideunet.slide_file import check_unchanged, load_slide
from slideunet.slide_overview import load_tissue
from slideunet.store import Work, make
from slideunet.summary import densest_fields, density_map

FOLDER = "pictures"
# Cells of the density map along the slide's longer side.
DENSITY_CELLS = 64


def overlay(
    *, slide: str, objects: str, segmentation: str, manifest: str, settings: dict, code: dict
) -> None:
    """Make the folder pictures/ beside overlay.json.

    slide, segmentation, objects : manifests; settings : section overlay

    overlay.png : the thumbnail with the objects' outlines and frames around the fields
    field_1.jpg ... : the densest fields with outlines, at the resolution that was segmented
    density.png : objects per mm2 over the slide
    tissue.png : the thumbnail with what was taken for tissue, the rest dimmed
    The folder is there, and empty, for a slide that failed. facts : the fields (y, x, height, width
    in px, objects), densest first; none of a slide without objects.
    """
    options = settings["overlay"]

    def build(work: Work) -> tuple[list[str], dict]:
        from pyarrow.parquet import read_table

        facts = load_slide(slide)
        check_unchanged(facts)
        segmented = store.load(segmentation)["facts"]
        store.load(objects)
        group = open_group(store.beside(objects, "objects.ome.zarr"))
        table = read_table(
            store.beside(objects, "objects.parquet"), columns=["centroid_y_px", "centroid_x_px"]
        )
        y, x = (table[name].to_numpy() for name in ("centroid_y_px", "centroid_x_px"))
        shape, pixel_um = group["0"].shape, segmented["pixel_um"]
        folder = work.folder / FOLDER
        folder.mkdir(exist_ok=True)
        fields = _densest(y, x, shape, _field_px(options, pixel_um), options["fields"])
        scale_yx = scale_of(facts, segmented)
        maps = open_group(store.beside(segmentation, "segmentation.ome.zarr"))
        with open_array(facts, segmented, maps["0"]) as image:
            for number, field in enumerate(fields, 1):
                rgb = _field(image, group["0"], field, facts, options)
                write_jpeg(folder / f"field_{number}.jpg", rgb)
        _write_whole(folder, slide, facts, group, scale_yx, fields, options)
        _write_tissue(folder / "tissue.png", slide, facts, options)
        cell_px = max(1.0, max(shape) / DENSITY_CELLS)
        density = density_map(y, x, shape, cell_px)
        draw_density(folder / "density.png", density, shape, cell_px, pixel_um)
        return [FOLDER], {"fields": fields}

    inputs = {"slide": slide, "objects": objects, "segmentation": segmentation}
    make(
        manifest, build, kind="overlay", settings=settings, code=code, inputs=inputs, slide=True
    )  # fmt: skip
    store.beside(manifest, FOLDER).mkdir(exist_ok=True)


def _field_px(options: dict, pixel_um: list[float] | None) -> int:
    """Side of a field in pixels of the segmentation: overlay.field_um where their size is known."""
    if pixel_um is None:
        return options["field_px"]
    return max(1, round(options["field_um"] / (sum(pixel_um) / 2)))


def _densest(y, x, shape: tuple[int, int], side: int, count: int) -> list[dict]:
    density = density_map(y, x, shape, side)
    return [
        {
            "y": row * side,
            "x": column * side,
            "height": min(side, shape[0] - row * side),
            "width": min(side, shape[1] - column * side),
            "objects": int(density[row, column]),
        }
        for row, column in densest_fields(density, count)
    ]


def _field(image: SlideArray, labels, field: dict, facts: dict, options: dict) -> np.ndarray:
    """One field, uint8 (Y, X, 3), with outlines."""
    rows = slice(field["y"], field["y"] + field["height"])
    columns = slice(field["x"], field["x"] + field["width"])
    low, high = facts["intensity"]["low"], facts["intensity"]["high"]
    if image.dtype == np.uint8 and image.shape[0] == 3:
        low = high = None  # colour is shown as it is
    rgb = to_rgb(image[:, rows, columns], low, high)
    return draw_outlines(rgb, labels[rows, columns].astype(np.int64), options["outline_rgb"])


def _write_tissue(path: Path, slide: str, facts: dict, options: dict) -> None:
    with Image.open(store.beside(slide, "thumbnail.png")) as picture:
        thumbnail = np.asarray(picture.convert("RGB"))
    tissue = load_tissue(slide, facts)
    label = np.ones(thumbnail.shape[:2], np.int64)
    if tissue is not None:
        label[~tissue.mask] = -1
    write_png(path, draw_outlines(thumbnail, label, options["outline_rgb"]))


def _write_whole(
    folder: Path, slide: str, facts: dict, group, scale_yx: tuple[float, float],
    fields: list[dict], options: dict,
) -> None:  # fmt: skip
    """overlay.png: labels of the pyramid's level nearest to the thumbnail's resolution."""
    with Image.open(store.beside(slide, "thumbnail.png")) as picture:
        thumbnail = np.asarray(picture.convert("RGB"))
    # Pixels of the label image per pixel of the thumbnail.
    per_px = [t / s for t, s in zip(facts["thumbnail"]["scale_yx"], scale_yx, strict=True)]
    level = max(0, math.floor(math.log2(min(per_px))))
    level = min(level, sum(1 for _ in group.array_keys()) - 1)
    labels = group[str(level)][...]
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * step / 2**level).astype(np.int64), size - 1)
        for n, step, size in zip(thumbnail.shape, per_px, labels.shape, strict=False)
    )
    labels = labels[np.ix_(rows, columns)].astype(np.int64)
    drawn = draw_outlines(thumbnail, labels, options["outline_rgb"])
    for number, field in enumerate(fields, 1):
        y, x, height, width = (
            field[key] / per_px[axis]
            for key, axis in (("y", 0), ("x", 1), ("height", 0), ("width", 1))
        )
        drawn = framed(drawn, (round(y), round(x), round(height), round(width)), str(number))
    write_png(folder / "overlay.png", drawn)
