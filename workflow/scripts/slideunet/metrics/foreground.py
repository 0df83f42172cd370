"""Foreground-restricted Rand and information scores of ISBI 2012.

Source: Arganda-Carreras et al. 2015 (Front. Neuroanat. 9:142), eq. 1 to 6, and the official classes
RandError and VariationOfInformation of Fiji's Trainable_Segmentation. Only pixels that are
foreground in the reference count; of these, each pixel that the prediction calls background is a
region by itself.

The measures of several sections: either each section's score is averaged ("per slice", which the
challenge's leader board shows), or the counts are summed before the score is taken ("micro").
"""

import math
from dataclasses import dataclass

import numpy as np

from slideunet.errors import UserError
from slideunet.metrics.overlap import pair_counts
from slideunet.metrics.pixels import f_score


@dataclass(frozen=True)
class RegionSums:
    """The sums over a section's regions that all scores are made of. No label image is kept.

    `pixels`: reference foreground pixels, n. `joint`, `reference`, `prediction`: sums of the
    squares of the sizes of the intersections, the reference regions and the predicted regions;
    `..._plogp`: the same with p log p, p = size / n, in place of the squares. `alone`: foreground
    pixels that the prediction calls background.
    """

    pixels: int
    alone: int
    joint: float
    reference: float
    prediction: float
    joint_plogp: float
    reference_plogp: float
    prediction_plogp: float

    @property
    def rand_counts(self) -> np.ndarray:
        """True positive, false positive and false negative pixel pairs, N^2 normalisation."""
        return np.array([self.joint, self.prediction - self.joint, self.reference - self.joint])

    @property
    def rand_score(self) -> float:
        """F-score of the foreground-restricted Rand index (V_rand, alpha 0.5)."""
        return f_score(*self.rand_counts)

    @property
    def rand_index(self) -> float:
        """Foreground-restricted Rand index, N^2 normalisation."""
        _, merged, split = self.rand_counts
        return 1 - (merged + split) / self.pixels**2

    @property
    def rand_error(self) -> float:
        """1 - foreground-restricted Rand index over pairs of different pixels (N choose 2).

        0.0 where there is one pixel, which makes no pair.
        """
        if self.pixels == 1:
            return 0.0
        # A region of one pixel has no pair, so that the pixels called background drop out.
        joint = self.joint - self.pixels
        wrong = self.prediction - self.pixels + self.reference - self.pixels - 2 * joint
        return wrong / (self.pixels * (self.pixels - 1))

    @property
    def information_variation(self) -> float:
        """Foreground-restricted variation of information, in nats."""
        return self.reference_plogp + self.prediction_plogp - 2 * self.joint_plogp

    @property
    def information_score(self) -> float:
        """F-score of C(T|S) and C(S|T), the shares of entropy that the other explains (V_info).

        0.0 where just one of the two is a single region (its entropy is 0), as in the official
        code; 1.0 where both are one and the same region, where that code says 0.
        """
        wanted, found = -self.reference_plogp, -self.prediction_plogp
        # Entropies below this are rounding: with n pixels the least one is log(n) / n.
        least = math.log(self.pixels) / self.pixels / 2
        if wanted <= least or found <= least:
            return 1.0 if max(wanted, found) <= least else 0.0
        common = wanted + found + self.joint_plogp
        precision, recall = common / wanted, common / found
        return 2 * precision * recall / (precision + recall) if common > 0 else 0.0


def region_sums(reference: np.ndarray, prediction: np.ndarray) -> RegionSums:
    """The sums of two label images of one section, one shape, 0 = background.

    Raises UserError where the reference has no foreground, and as `inputs` says.
    """
    pairs = pair_counts(reference, prediction)
    inside = pairs.reference_ids[pairs.rows] != 0
    rows, columns = pairs.rows[inside], pairs.columns[inside]
    pixels = pairs.pixels[inside].astype(np.float64)
    total = int(pixels.sum())
    if not total:
        raise UserError("the reference holds no foreground: Rand and V_info are not defined")
    background = pairs.prediction_ids[columns] == 0
    alone = int(pixels[background].sum())
    joint = pixels[~background]
    by_reference = np.bincount(rows, weights=pixels)
    by_prediction = np.bincount(columns[~background], weights=joint)
    alone_plogp = -alone / total * math.log(total)
    return RegionSums(
        total,
        alone,
        float((joint**2).sum()) + alone,
        float((by_reference**2).sum()),
        float((by_prediction**2).sum()) + alone,
        _plogp(joint / total) + alone_plogp,
        _plogp(by_reference / total),
        _plogp(by_prediction / total) + alone_plogp,
    )


def _plogp(share: np.ndarray) -> float:
    share = share[share > 0]
    return float((share * np.log(share)).sum())
