"""The measures of the ISBI 2012 EM segmentation challenge, over thresholds, for a set of sections.

Source: Arganda-Carreras et al. 2015 and the official classes of Fiji's Trainable_Segmentation.
The challenge of 2012 ranked by warping error, Rand error and pixel error; the later leader board by
V_rand and V_info after border thinning, averaged over sections. Each takes its own best threshold
of 0, 0.1 .. 1, the same for all sections.

`section_scores` counts one section; `summary` takes the measures from the counts of all sections,
of one fold or of five.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import scipy.ndimage

from slideunet.errors import UserError
from slideunet.metrics import inputs
from slideunet.metrics.foreground import RegionSums, region_sums
from slideunet.metrics.pixels import f_score
from slideunet.metrics.thinning import thin_borders
from slideunet.metrics.warping import WarpingCounts, warping_counts

# 0, 0.1 .. as the official loop adds them up: the last one is just below 1, so that a probability
# of 1 is above it.
THRESHOLDS = tuple(accumulate([0.0] + [0.1] * 10))


@dataclass(frozen=True)
class SectionScores:
    """Counts of one section, a list entry per threshold.

    `pixel_counts`: true positive, false positive, false negative pixels, foreground is positive;
    `regions`, `thinned`: region sums before and after border thinning; `warping` is empty where it
    was not asked for.
    """

    thresholds: tuple[float, ...]
    pixels: int
    pixel_counts: list[tuple[int, int, int]]
    regions: list[RegionSums]
    thinned: list[RegionSums]
    warping: list[WarpingCounts]


def section_scores(
    reference: np.ndarray,
    probability: np.ndarray,
    thresholds: Sequence[float] = THRESHOLDS,
    warping: bool = True,
) -> SectionScores:
    """Count one section (Y, X): `reference` is a mask of the cells (0 = membrane), `probability`
    the predicted probability of the cells. A pixel is cell where it is above the threshold.

    Raises UserError where the reference has no cell, and as `inputs` says.
    """
    inputs.same_shape(reference, probability)
    reference = inputs.mask(reference, "reference")
    probability = inputs.probability(probability, "probability")
    if reference.ndim != 2:
        raise UserError(f"the reference has {reference.ndim} axes: give one section (Y, X) a time")
    cells, _ = scipy.ndimage.label(reference)
    wide = probability.astype(np.float64)
    pixel_counts, regions, thinned, warped = [], [], [], []
    for threshold in thresholds:
        found = wide > threshold
        both, only_found = int((reference & found).sum()), int((found & ~reference).sum())
        pixel_counts.append((both, only_found, int(reference.sum()) - both))
        regions.append(region_sums(cells, scipy.ndimage.label(found)[0]))
        thinned.append(region_sums(cells, thin_borders(found)))
        if warping:
            warped.append(warping_counts(reference, probability, threshold))
    return SectionScores(tuple(thresholds), reference.size, pixel_counts, regions, thinned, warped)


def curves(sections: Sequence[SectionScores]) -> dict[str, np.ndarray]:
    """Each measure at each threshold, over all sections: {name: float64 (thresholds,)}.

    pixel_score     F-score of pixel similarity, all pixels counted together
    rand_score      F-score of the foreground-restricted Rand index, all pairs counted together
    v_rand          the same after border thinning, mean over sections
    v_rand_micro    the same after border thinning, all pairs counted together
    v_info          F-score of the information after border thinning, mean over sections
    warping_error   splits and mergers per pixel (only if all sections were warped)

    Raises UserError without a section, or where sections were counted at different thresholds.
    """
    if not sections or len({section.thresholds for section in sections}) > 1:
        raise UserError(
            f"{len(sections)} sections with different thresholds or none: count at least one"
            " section, all at the same thresholds"
        )
    thinned = [section.thinned for section in sections]
    result = {
        "pixel_score": _pooled([section.pixel_counts for section in sections]),
        "rand_score": _pooled(_rand_counts([section.regions for section in sections])),
        "v_rand": _mean([[sums.rand_score for sums in each] for each in thinned]),
        "v_rand_micro": _pooled(_rand_counts(thinned)),
        "v_info": _mean([[sums.information_score for sums in each] for each in thinned]),
    }
    if all(section.warping for section in sections):
        wrong = [[each.splits + each.mergers for each in section.warping] for section in sections]
        pixels = sum(section.pixels for section in sections)
        result["warping_error"] = np.array(wrong).sum(0) / pixels
    return result


def _rand_counts(sections: list[list[RegionSums]]) -> list[list[np.ndarray]]:
    return [[sums.rand_counts for sums in section] for section in sections]


def _pooled(counts: list[list]) -> np.ndarray:
    """F-score at each threshold of the counts summed over sections."""
    return np.array([f_score(*total) for total in np.array(counts, np.float64).sum(0).tolist()])


def _mean(scores: list[list[float]]) -> np.ndarray:
    return np.array(scores).mean(0)


def summary(sections: Sequence[SectionScores]) -> dict[str, dict[str, float]]:
    """The challenge's figures, each at its best threshold: {name: {value, threshold}}.

    Names: pixel_error, rand_error (both 1 - the best F-score), v_rand, v_rand_micro, v_info, and
    warping_error if the sections were warped. Of equal values the lowest threshold is named.
    Raises UserError as `curves` does.
    """
    figures = {}
    for name, values in curves(sections).items():
        best = values.argmin() if name == "warping_error" else values.argmax()
        error = name in ("pixel_score", "rand_score")
        figures[name.replace("_score", "_error")] = {
            "value": float(1 - values[best] if error else values[best]),
            "threshold": round(sections[0].thresholds[best], 6),
        }
    return figures
