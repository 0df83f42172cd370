"""The measures of challenges and of the literature, by name, over a set of evaluated images.

Each takes all images of an evaluation and returns figures {name: value}, so that what a challenge
pools over its images is pooled here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from slideunet.errors import UserError
from slideunet.metrics import celltracking, isbi
from slideunet.metrics.objects import average_precisions, mean_average_precision
from slideunet.metrics.partitions import adapted_rand, variation_of_information


@dataclass(frozen=True)
class Evaluated:
    """One image: what is true and what was found."""

    name: str
    label: np.ndarray  # (Y, X) int32 instances as annotated, -1 not annotated
    truth: np.ndarray  # (Y, X) uint8 classes as annotated, 255 not annotated
    foreground: np.ndarray  # (Y, X) float32 probability of any class but the background
    labelled: np.ndarray  # (Y, X) int32 instances found

    @property
    def ignored(self) -> np.ndarray:
        """Pixels that nobody annotated, (Y, X) bool."""
        return self.label < 0

    @property
    def cells(self) -> np.ndarray:
        """The true instances, 0 where nobody annotated."""
        return np.maximum(self.label, 0)


def isbi_2012(images: Sequence[Evaluated]) -> dict[str, float]:
    """The EM challenge's figures and their thresholds, cells against membrane (metrics.isbi)."""
    scores = []
    for image in images:
        if (image.truth == 255).any():
            raise UserError(
                f"{image.name}: pixels without annotation, which the ISBI 2012 measures do not "
                "know: take isbi out of evaluate.measures"
            )
        scores.append(isbi.section_scores(image.truth > 0, image.foreground))
    figures = {}
    for name, figure in isbi.summary(scores).items():
        figures[f"isbi_{name}"] = figure["value"]
        figures[f"isbi_{name}_threshold"] = figure["threshold"]
    return figures


def cell_tracking(images: Sequence[Evaluated]) -> dict[str, float]:
    """SEG of the Cell Tracking Challenge, over the cells of all frames."""
    return {"seg": celltracking.seg((image.cells, image.labelled) for image in images)[0]}


def precision(images: Sequence[Evaluated]) -> dict[str, float]:
    """Average precision at IoU 0.5, 0.55 ... 0.95, their mean, panoptic quality: of all objects."""
    total: dict = {}
    for image in images:
        counts = average_precisions(image.cells, image.labelled, ignore=image.ignored)
        for iou, count in counts.items():
            total[iou] = total[iou] + count if iou in total else count
    figures = {f"ap_{round(100 * iou)}": count.average_precision for iou, count in total.items()}
    lowest = min(total)
    return figures | {
        "ap_mean": mean_average_precision(total),
        "panoptic_quality": total[lowest].panoptic_quality,
    }


def partitions(images: Sequence[Evaluated]) -> dict[str, float]:
    """Adapted Rand error and variation of information in bits, means over the images."""
    # Adapted Rand knows the cells' pixels only, none of which is ignored.
    rands = [adapted_rand(image.cells, image.labelled) for image in images]
    splits, mergers = zip(
        *(variation_of_information(image.cells, image.labelled, image.ignored) for image in images),
        strict=True,
    )
    return {
        "adapted_rand_error": float(np.mean([rand.error for rand in rands])),
        "voi_split_bits": float(np.mean(splits)),
        "voi_merge_bits": float(np.mean(mergers)),
    }


MEASURES: dict[str, Callable[[Sequence[Evaluated]], dict[str, float]]] = {
    "isbi": isbi_2012,
    "seg": cell_tracking,
    "precision": precision,
    "partitions": partitions,
}


def measure(names: Sequence[str], images: Sequence[Evaluated]) -> dict[str, float]:
    """The figures of the named measures. Raises UserError as they do."""
    figures: dict[str, float] = {}
    for name in names:
        figures |= MEASURES[name](images)
    return figures
