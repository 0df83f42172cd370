"""Pictures of one slide's objects: outlines on the thumbnail and on its densest fields."""

import math

import numpy as np
from PIL import Image

from slideunet import store
from slideunet.arrays import open_group
from slideunet.pictures import overlay as draw_outlines
from slideunet.pictures import side_by_side, to_rgb, write_png
from slideunet.slide_array import open_array, scale_of
from slideunet.slide_file import load_slide
from slideunet.store import Work, make
from slideunet.summary import densest_fields, density_map

FIELDS = 3


def overlay(
    *, slide: str, objects: str, segmentation: str, manifest: str, settings: dict, code: dict
) -> None:
    """Make overlay.png: the whole slide, and its FIELDS densest fields at full resolution.

    slide, segmentation, objects : manifests; settings : section overlay
    """
    options = settings["overlay"]

    def build(work: Work) -> tuple[list[str], dict]:
        from pyarrow.parquet import read_table

        facts = load_slide(slide)
        scale_yx = scale_of(facts, store.load(segmentation)["facts"])
        store.load(objects)
        group = open_group(store.beside(objects, "objects.ome.zarr"))
        table = read_table(
            store.beside(objects, "objects.parquet"), columns=["centroid_y_px", "centroid_x_px"]
        )
        y, x = (table[name].to_numpy() for name in ("centroid_y_px", "centroid_x_px"))
        low, high = facts["intensity"]["low"], facts["intensity"]["high"]
        colour, side = tuple(options["outline_rgb"]), options["field_px"]
        with open_array(facts, scale_yx) as image:
            if image.dtype == np.uint8 and image.shape[0] == 3:
                low = high = None  # colour is shown as it is
            thumbnail = np.asarray(Image.open(store.beside(slide, "thumbnail.png")).convert("RGB"))
            per_px = tuple(
                t / s for t, s in zip(facts["thumbnail"]["scale_yx"], scale_yx, strict=True)
            )
            pictures = [_whole(thumbnail, group, per_px, colour)]
            density = density_map(y, x, group["0"].shape, side)
            for row, column in densest_fields(density, FIELDS):
                where = np.s_[row * side : (row + 1) * side, column * side : (column + 1) * side]
                rgb = to_rgb(image[(slice(None), *where)], low, high)
                pictures.append(draw_outlines(rgb, group["0"][where].astype(np.int64), colour))
        write_png(work.folder / "overlay.png", side_by_side(pictures))
        return ["overlay.png"], {"fields": len(pictures) - 1}

    inputs = {"slide": slide, "objects": objects, "segmentation": segmentation}
    make(
        manifest, build, kind="overlay", settings=settings, code=code, inputs=inputs, slide=True
    )  # fmt: skip


def _whole(thumbnail: np.ndarray, group, thumbnail_per_px: tuple[float, float], colour):
    """The thumbnail with outlines: labels of the pyramid's level nearest to its resolution.

    thumbnail_per_px : (y, x) pixels of the label image per pixel of the thumbnail
    """
    level = max(0, math.floor(math.log2(min(thumbnail_per_px))))
    level = min(level, sum(1 for _ in group.array_keys()) - 1)
    labels = group[str(level)][...]
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * step / 2**level).astype(np.int64), size - 1)
        for n, step, size in zip(thumbnail.shape, thumbnail_per_px, labels.shape, strict=False)
    )
    return draw_outlines(thumbnail, labels[np.ix_(rows, columns)].astype(np.int64), colour)
