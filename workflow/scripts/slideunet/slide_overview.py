"""What the index saw of a slide at low resolution: where its tissue lies, whether it is stained."""

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from slideunet import store
from slideunet.tissue_mask import Tissue, is_bright_field
from slideunet.tissue_outlines import from_geojson


def load_tissue(slide: str | Path, facts: dict) -> Tissue | None:
    """The tissue mask from tissue.geojson beside the slide's manifest; None: all of it is tissue.

    `facts`: of that manifest. A slide without tissue has an empty mask.
    """
    if facts["tissue"]["source"] == "all":
        return None
    outlines = store.beside(slide, "tissue.geojson")
    thumbnail = facts["thumbnail"]
    shape = thumbnail["height"], thumbnail["width"]
    scale_yx = tuple(thumbnail["scale_yx"])
    if not json.loads(outlines.read_bytes())["features"]:
        return Tissue(np.zeros(shape, bool), np.zeros(shape, bool), scale_yx, "outlines")
    return from_geojson(os.fspath(outlines), shape, scale_yx)


def is_stained(slide: str | Path, facts: dict) -> bool:
    """Whether the slide is 8-bit colour in bright field, so that optical densities mean something.

    By its thumbnail, which is such a slide's own overview: a fluorescence picture saved as RGB has
    a dark background.
    """
    if list(facts["channels"]) != ["red", "green", "blue"] or facts["dtype"] != "uint8":
        return False
    with Image.open(store.beside(slide, "thumbnail.png")) as picture:
        return is_bright_field(np.moveaxis(np.asarray(picture.convert("RGB")), -1, 0))


class TissueArray:
    """A tissue mask as an array (Y, X) of bool at another resolution, looked up as it is read.

    `shape` in pixels of `scale_yx` level-0 pixels each; slices with a step of one.
    """

    dtype = np.dtype(bool)

    def __init__(self, tissue: Tissue, shape: tuple[int, int], scale_yx: tuple[float, float]):
        self.tissue, self.shape, self.scale_yx = tissue, tuple(shape), scale_yx

    def __getitem__(self, where: tuple[slice, slice]) -> np.ndarray:
        places = []
        for part, size, scale, coarse, length in zip(
            where, self.shape, self.scale_yx, self.tissue.scale_yx, self.tissue.mask.shape,
            strict=True,
        ):  # fmt: skip
            centres = (np.arange(*part.indices(size)) + 0.5) * scale / coarse
            places.append(np.minimum(centres.astype(np.int64), length - 1))
        return self.tissue.mask[np.ix_(*places)]
