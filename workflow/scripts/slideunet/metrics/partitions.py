"""Measures that compare two partitions of the pixels: adapted Rand and variation of information.

Here every label is a region, the predicted background (0) too, as in scikit-image. So objects that
are predicted a little too small make one large region of all the background between them, which
costs adapted Rand most of its precision. Where the prediction leaves background between objects,
`foreground.region_sums(...).rand_score` is the better one (1 - it is the error as the SNEMI3D and
ISBI challenges compute it): there each predicted background pixel is a region by itself.
"""

from dataclasses import dataclass

import numpy as np
import scipy.stats
import skimage.metrics

from slideunet.errors import UserError
from slideunet.metrics import inputs
from slideunet.metrics.overlap import PairCounts, pair_counts


@dataclass(frozen=True)
class AdaptedRand:
    """Adapted Rand error (1 - F-score) with the precision and recall it is made of."""

    error: float
    precision: float
    recall: float


def adapted_rand(
    reference: np.ndarray, prediction: np.ndarray, ignore: np.ndarray | None = None
) -> AdaptedRand:
    """Adapted Rand error (Arganda-Carreras et al. 2015; SNEMI3D) of two label images.

    Pixels whose reference is 0 are left out, and those of `ignore`. Precision: of the pixel pairs
    that share a predicted label, the share that also shares a reference label; recall: the other
    way round. 1.0 for either without any such pair (all regions have one pixel). Raises UserError
    where the reference holds no object.
    """
    pairs = _foreground(reference, prediction, ignore)
    joint = float((pairs.pixels * (pairs.pixels - 1.0)).sum())
    wanted, found = pairs.reference_pixels(), pairs.prediction_pixels()
    wanted_pairs = float((wanted * (wanted - 1.0)).sum())
    found_pairs = float((found * (found - 1.0)).sum())
    if not wanted_pairs + found_pairs:
        return AdaptedRand(0.0, 1.0, 1.0)
    # skimage (0.26) names its precision and recall the wrong way round, so only its error is taken.
    with np.errstate(invalid="ignore", divide="ignore"):
        error, _, _ = skimage.metrics.adapted_rand_error(table=pairs.table())
    return AdaptedRand(
        float(error),
        joint / found_pairs if found_pairs else 1.0,
        joint / wanted_pairs if wanted_pairs else 1.0,
    )


def variation_of_information(
    reference: np.ndarray,
    prediction: np.ndarray,
    ignore: np.ndarray | None = None,
    foreground_only: bool = False,
) -> tuple[float, float]:
    """Variation of information in bits: (H(prediction | reference), H(reference | prediction)).

    The first grows with splits, the second with mergers; their sum is the variation of information
    (Meila 2007). `foreground_only` leaves out the pixels
    whose reference is 0, which are else a region like any other. Raises UserError where the
    reference holds no object.
    """
    # Not skimage's: it makes arrays as long as the largest label id.
    pairs = _foreground(reference, prediction, ignore, keep_background=not foreground_only)
    joint = scipy.stats.entropy(pairs.pixels, base=2)
    split = joint - scipy.stats.entropy(pairs.reference_pixels(), base=2)
    merge = joint - scipy.stats.entropy(pairs.prediction_pixels(), base=2)
    # Differences of equal entropies may come out as -1e-16.
    return max(float(split), 0.0), max(float(merge), 0.0)


def _foreground(
    reference: np.ndarray,
    prediction: np.ndarray,
    ignore: np.ndarray | None,
    keep_background: bool = False,
) -> PairCounts:
    inputs.same_shape(reference, prediction)
    ignore = inputs.ignore_mask(ignore, np.shape(reference))
    reference = inputs.label_image(reference, "reference", ignore)
    prediction = inputs.label_image(prediction, "prediction", ignore)
    counted = reference != 0 if ignore is None else (reference != 0) & ~ignore
    if not counted.any():
        raise UserError("the reference holds no object: its regions cannot be compared")
    left_out = ignore if keep_background else ~counted
    return pair_counts(reference, prediction, left_out)
