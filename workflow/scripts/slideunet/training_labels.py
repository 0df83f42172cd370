"""The label of a training image: instances and classes per pixel, and where nobody annotated.

A label image is int32 (Y, X): -1 not annotated, 0 background, 1 ... instances. Its class image is
uint8: 255 not annotated, else the index of the class (0 background).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from slideunet.annotations import (
    IGNORE_CLASS,
    IGNORE_LABEL,
    REGION_NAME,
    label_outlines,
    leave_out,
)
from slideunet.annotations import read_outlines as read_outline_file
from slideunet.errors import UserError
from slideunet.images import ImageFile, Picture
from slideunet.polygons import Outline, mask, moved
from slideunet.stacks import page_count

LABEL_MAX = 2**31 - 1
# What painting programs write for "object"; other pairs of values are one instance's number.
MASK_VALUES = (1, 255, 65535)
# The ISBI 2012 rules: 4-neighbours, so that cells parted by a membrane of one pixel that runs
# diagonally stay apart.
MASK_CONNECTIVITY = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True)
class LabelSource:
    """A label as a row of the training table gives it; None where the row says nothing."""

    path: str
    label_type: str = "auto"
    page: int | None = None
    ignore: str | None = None
    ignore_value: int | None = None
    annotated: str | None = None
    silver: str | None = None

    @property
    def partial(self) -> bool:
        """Whether the row says that something was left out by intention."""
        given = (self.ignore, self.ignore_value, self.annotated, self.silver)
        return any(value is not None for value in given)


def read_label(
    source: LabelSource, image: Picture, classes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Label and class image (Y, X) for the region of the image, checked; see `label_of`.

    Raises UserError as that does, and for one class only (all background or all object) where the
    row does not say that the rest was not annotated.
    """
    label, class_image = label_of(source, image, classes)
    check_classes(source, class_image, classes)
    return label, class_image


def label_of(
    source: LabelSource,
    image: Picture,
    classes: list[str],
    read_outlines: Callable[[str], list[Outline]] = read_outline_file,
) -> tuple[np.ndarray, np.ndarray]:
    """Label and class image (Y, X) for the region of the image.

    `read_outlines` reads an outline file (whoever cuts many regions keeps what was read).

    A label image may be of the size of the whole picture or of the region; where the picture was
    resampled, in the new pixels, or of the file's own size (the pixel under the centre counts).
    Types: `instances`
    (each value above 0 is an object, numbers kept), `mask` (above 0 is object; 4-connected
    components become the instances), `xml`, `geojson`; `auto` goes by the file's name, and takes an
    image of just 0 and one of MASK_VALUES for a mask, all others for instances.

    Raises UserError for what can't be read or can't be a label: another size, values that are not
    whole or negative, objects of which no class is known.
    """
    kind = _kind(source)
    if kind == "outlines":
        outlines = placed(source.path, read_outlines(source.path), image)
        y, x, height, width = image.region
        label, class_image = label_outlines(outlines, classes, (height, width), (y, x), source.path)
    else:
        label, class_image = _from_image(source, image, classes)
    if source.ignore is not None:
        page = source.page if (page_count(source.ignore) or 1) > 1 else None
        leave_out(label, class_image, _read_values(source.ignore, page, image) != 0)
    if source.annotated is not None:
        regions = placed(source.annotated, read_outlines(source.annotated), image)
        leave_out(label, class_image, ~mask(regions, label.shape, image.region[:2]))
    if source.silver is not None:
        page = source.page if (page_count(source.silver) or 1) > 1 else None
        values = _read_values(source.silver, page, image)
        silver = to_instances(values, "auto", None, source.silver)
        leave_out(label, class_image, (label == 0) & unconfirmed(silver, label))
    return label, class_image


def unconfirmed(silver: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Bool (Y, X): pixels of those objects of `silver` of which the label covers half or less.

    Objects that are in the label too, drawn a little smaller there, keep their rim as background:
    without it nothing would teach the network to part neighbours.
    """
    numbers, place = np.unique(silver, return_inverse=True)
    place = place.ravel()
    area = np.bincount(place)
    covered = np.bincount(place, label.ravel() > 0, len(numbers))
    missing = (2 * covered <= area) & (numbers > 0)
    return missing[place].reshape(silver.shape)


def regions_of(
    source: LabelSource, image: ImageFile, read_outlines: Callable[[str], list[Outline]]
) -> list[Outline]:
    """The outlines, in the pixels that are read, outside of which nobody annotated; [] for none."""
    found: list[Outline] = []
    if _kind(source) == "outlines":
        outlines = read_outlines(source.path)
        found = [o for o in outlines if o.name.casefold() == REGION_NAME.casefold()]
        found = placed(source.path, found, image)
    if not found and source.annotated is not None:
        found = placed(source.annotated, read_outlines(source.annotated), image)
    return found


def _kind(source: LabelSource) -> str:
    name = source.path.lower()
    looks = name.endswith((".xml", ".geojson", ".json", ".geojson.gz", ".json.gz"))
    if source.label_type in ("xml", "geojson") or (source.label_type == "auto" and looks):
        return "outlines"
    return "image"


def placed(path: str, outlines: list[Outline], image: Picture | ImageFile) -> list[Outline]:
    """Outlines in the pixels that are read.

    They are drawn in the file's pixels: QuPath counts from the corner of the scanned area,
    ImageScope from that of the slide.
    """
    scale = np.array(image.scale_yx)
    corner = np.array((0, 0) if path.lower().endswith(".xml") else image.bounds_yx)
    if (scale == 1).all() and not corner.any():
        return outlines
    return moved(outlines, offset_yx=corner / scale, factor=1 / scale)


def _from_image(
    source: LabelSource, image: Picture, classes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    if len(classes) > 2:
        raise UserError(
            f"{source.path}: a label image does not say which of the classes "
            f"{', '.join(classes[1:])} an object has: use GeoJSON outlines with classes"
        )
    values = _read_values(source.path, source.page, image)
    left_out = values == source.ignore_value if source.ignore_value is not None else None
    label = to_instances(values, source.label_type, left_out, source.path)
    class_image = (label > 0).astype(np.uint8)
    class_image[label == IGNORE_LABEL] = IGNORE_CLASS
    return label, class_image


def to_instances(
    values: np.ndarray, label_type: str, left_out: np.ndarray | None, path: str
) -> np.ndarray:
    """A label image int32 from the values (Y, X) of a file; see `read_label` for the types.

    `left_out` (bool, or None for none) becomes -1. Numbers above 2^31 - 1 are renumbered densely,
    never wrapped.
    """
    values = values if left_out is None else np.where(left_out, values.dtype.type(0), values)
    present = np.unique(values)
    odd = present[~(np.isfinite(present) & (present == np.floor(present)))]
    if odd.size:
        raise UserError(f"{path}: values such as {odd[0]:g} are no label: save it as integers")
    if present[0] < 0:
        raise UserError(
            f"{path}: label {int(present[0])} is negative: if it marks what nobody annotated, give "
            "it in column ignore_value"
        )
    above = present[present > 0]
    mask_like = len(above) == 1 and above[0] in MASK_VALUES
    if label_type == "mask" and len(above) > 1:
        raise UserError(
            f"{path}: {len(present)} values where a mask has two: if each object has a number of "
            "its own, set label_type to instances"
        )
    if label_type == "mask" or (label_type == "auto" and mask_like):
        label = ndimage.label(values > 0, structure=MASK_CONNECTIVITY, output=np.int32)[0]
    elif len(above) and above[-1] > LABEL_MAX:
        if len(above) > LABEL_MAX:
            raise UserError(f"{path}: {len(above)} labels, more than {LABEL_MAX}")
        place = np.searchsorted(present, values)
        label = (place + (0 if present[0] == 0 else 1)).astype(np.int32)
    else:
        label = values.astype(np.int32)
    if left_out is not None:
        label[left_out] = IGNORE_LABEL
    return label


def _read_values(path: str, page: int | None, image: Picture) -> np.ndarray:
    """Values (Y, X) of a label image or mask, cut to the image's region."""
    indexed = _read_indexed(path) if page is None else None
    if indexed is not None:
        size = indexed.shape
        return _cut(path, size, image, lambda y, x, h, w: indexed[None, y : y + h, x : x + w])
    with ImageFile(path, page) as file:
        return _cut(path, file.whole_yx, image, lambda *region: file.read(region).pixels)


def _cut(
    path: str, size: tuple[int, int], image: Picture, read: Callable[..., np.ndarray]
) -> np.ndarray:
    """The image's region of a label of `size`; `read` (y, x, height, width) gives (C, Y, X)."""
    y, x, height, width = image.region
    if size == image.whole_yx:
        return _one_channel(path, read(y, x, height, width))
    if size == (height, width):
        return _one_channel(path, read(0, 0, height, width))
    if size == image.file_yx:
        rows, columns = (
            np.minimum(((start + np.arange(many) + 0.5) * scale).astype(np.int64), whole - 1)
            for start, many, scale, whole in zip(
                (y, x), (height, width), image.scale_yx, size, strict=True
            )
        )
        window = rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        values = _one_channel(path, read(*map(int, window)))
        return values[np.ix_(rows - rows[0], columns - columns[0])]
    wanted = f"{image.whole_yx[0]} x {image.whole_yx[1]}"
    if image.region[2:] != image.whole_yx:
        wanted += f" (its region {height} x {width})"
    raise UserError(
        f"{path}: is {size[0]} x {size[1]} px (height x width), its image "
        f"{wanted}: they must be of one size"
    )


def _one_channel(path: str, pixels: np.ndarray) -> np.ndarray:
    if len(pixels) > 1 and not (pixels == pixels[:1]).all():
        raise UserError(
            f"{path}: {len(pixels)} channels, a label image has one: save it as a grey image"
        )
    return pixels[0]


def _read_indexed(path: str) -> np.ndarray | None:
    """A PNG with a palette (Y, X): as a label its numbers count, not the colours they stand for."""
    try:
        with open(path, "rb") as file:
            if file.read(8) != b"\x89PNG\r\n\x1a\n":
                return None
        with Image.open(path, formats=["PNG"]) as picture:
            if picture.mode != "P":
                return None
            return np.asarray(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None  # the reader says what is wrong with it


def check_classes(source: LabelSource, class_image: np.ndarray, classes: list[str]) -> None:
    counts = np.bincount(class_image.ravel(), minlength=256)
    annotated = class_image.size - int(counts[IGNORE_CLASS])
    if annotated == 0:
        raise UserError(
            f"{source.path}: no pixel of the image is annotated: see columns ignore, annotated"
        )
    if source.partial or IGNORE_CLASS in np.flatnonzero(counts):
        return
    if counts[0] == annotated:
        raise UserError(
            f"{source.path}: all background, no object within the image: wrong file or region?"
        )
    if counts[0] == 0:
        raise UserError(
            f"{source.path}: all object, no background ({classes[0]}) in it: inverted, or the "
            "wrong label_type?"
        )
