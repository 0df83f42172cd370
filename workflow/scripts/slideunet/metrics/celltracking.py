"""SEG, the segmentation measure of the Cell Tracking Challenge (Ulman et al. 2017, Methods).

A reference cell R matches the predicted object S with |R n S| > |R| / 2 (at most one object can
hold more than half of R) and scores their Jaccard index |R n S| / |R u S|, or 0 without a match.
SEG is the mean over all reference cells of all frames. Predicted objects without a cell cost
nothing: reference frames are annotated in part.
"""

from collections.abc import Iterable

import numpy as np

from slideunet.errors import UserError
from slideunet.metrics.overlap import pair_counts


def cell_scores(reference: np.ndarray, prediction: np.ndarray) -> dict[int, float]:
    """Score of each reference cell of one frame: {label: Jaccard index, 0.0 without a match}.

    Two label images of one shape, 0 = background. Empty for a frame without a cell. Raises
    UserError as `inputs` says.
    """
    pairs = pair_counts(reference, prediction)
    cell_px = pairs.reference_pixels()[pairs.rows]
    object_px = pairs.prediction_pixels()[pairs.columns]
    ids = pairs.reference_ids[pairs.rows], pairs.prediction_ids[pairs.columns]
    matched = (ids[0] != 0) & (ids[1] != 0) & (2 * pairs.pixels > cell_px)
    jaccard = pairs.pixels / (cell_px + object_px - pairs.pixels)
    scores = {int(label): 0.0 for label in pairs.reference_ids if label != 0}
    scores.update(zip(ids[0][matched].tolist(), jaccard[matched].tolist(), strict=True))
    return scores


def seg(frames: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[float, list[float | None]]:
    """SEG over (reference, prediction) frames: the pooled mean, and each frame's own mean.

    Pooled: the mean over the cells of all frames, as the challenge takes it. A frame without a
    reference cell has None. Raises UserError where no frame has a cell.
    """
    scores = [list(cell_scores(*frame).values()) for frame in frames]
    pooled = [score for frame in scores for score in frame]
    if not pooled:
        raise UserError("no reference frame holds a cell: SEG is not defined without one")
    return float(np.mean(pooled)), [float(np.mean(frame)) if frame else None for frame in scores]
