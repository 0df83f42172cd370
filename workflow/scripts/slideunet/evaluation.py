"""How good a segmentation of annotated images is: measures over one image or several, a picture."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from slideunet.errors import UserError
from slideunet.metrics.objects import ObjectCounts, object_counts
from slideunet.metrics.pixels import class_dice, class_iou, confusion, wrong_share
from slideunet.picture_grid import draw_grid
from slideunet.pictures import overlay, to_rgb

IGNORE_CLASS = 255  # pixels that nobody annotated
SHOWN = 4  # images in the picture


@dataclass(frozen=True)
class Counted:
    """What one image, or several together (`a + b`), counted."""

    pixels: np.ndarray  # confusion matrix, rows truth, columns prediction
    objects: ObjectCounts

    def __add__(self, other: "Counted") -> "Counted":
        return Counted(self.pixels + other.pixels, self.objects + other.objects)

    def measures(self, classes: list[str]) -> dict:
        """IoU and Dice by class, pixel error, object F1, precision and recall at IoU 0.5."""
        return {
            "iou": dict(zip(classes, class_iou(self.pixels).tolist(), strict=True)),
            "dice": dict(zip(classes, class_dice(self.pixels).tolist(), strict=True)),
            "foreground_iou": float(class_iou(self.pixels)[1:].mean()),
            "foreground_dice": float(class_dice(self.pixels)[1:].mean()),
            "pixel_error": wrong_share(self.pixels),
            "object_f1": self.objects.f1,
            "object_precision": self.objects.precision,
            "object_recall": self.objects.recall,
            "objects": self.objects.true_positives + self.objects.false_negatives,
        }


def components(classes: np.ndarray) -> np.ndarray:
    """Instances of a class image: 4-connected pixels of one class, (Y, X) int32 from 1.

    Four neighbours as in the ISBI 2012 rules: cells that meet at a corner are two.
    """
    labelled = np.zeros(classes.shape, np.int32)
    found = 0
    for number in np.unique(classes[classes > 0]):
        parts, count_of_class = ndimage.label(classes == number)
        labelled = np.where(parts > 0, parts + found, labelled)
        found += count_of_class
    return labelled.astype(np.int32)


def count(
    truth: np.ndarray,
    found: np.ndarray,
    label: np.ndarray,
    labelled: np.ndarray,
    classes: int,
    min_area_px: int,
) -> Counted:
    """Compare class images (`truth` with 255 where nobody annotated) and instances.

    Objects below `min_area_px` count neither way. Raises UserError where nothing is annotated, or
    the truth holds a class that the model does not know.
    """
    ignored = (truth == IGNORE_CLASS) | (label < 0)
    if ignored.all():
        raise UserError("an image to evaluate on has no annotated pixel: leave it out of test_on")
    return Counted(
        confusion(truth, found, classes, ignored),
        object_counts(np.maximum(label, 0), labelled, 0.5, min_area_px, ignored),
    )


def pool(counted: list[Counted]) -> Counted:
    """All images together: each annotated pixel and each object counts the same."""
    if not counted:
        raise UserError("no image to evaluate on: name a split with images in test_on")
    total = counted[0]
    for one in counted[1:]:
        total = total + one
    return total


@dataclass(frozen=True)
class Shown:
    """One row of the picture: grey values (C, Y, X), true and predicted instances (Y, X)."""

    name: str
    pixels: np.ndarray
    label: np.ndarray
    labelled: np.ndarray
    measures: dict


def draw(path: Path, shown: list[Shown]) -> None:
    """Image, truth and prediction side by side, a row for each of the first images, as PNG."""
    rows = []
    for row in shown[:SHOWN]:
        rgb = to_rgb(row.pixels)
        unknown = np.where(row.label < 0, -1, row.labelled)  # dimmed, as in the truth
        iou, f1 = row.measures["foreground_iou"], row.measures["object_f1"]
        titles = (row.name, "truth", f"prediction: IoU {iou:.3f}, object F1 {f1:.3f}")
        pictures = (rgb, overlay(rgb, row.label), overlay(rgb, unknown))
        rows.append(list(zip(titles, pictures, strict=True)))
    draw_grid(path, rows)
