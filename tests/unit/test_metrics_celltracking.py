"""SEG of the Cell Tracking Challenge: by hand, and against the challenge's own figure."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from slideunet.metrics.celltracking import cell_scores, seg

DATA = os.environ.get("UNET_SLIDES_DATA")


def test_a_cell_needs_more_than_half_of_its_pixels():
    reference = np.array([[1, 1, 1, 1, 2, 2, 2, 0, 3, 0]])
    prediction = np.array([[5, 5, 0, 6, 7, 7, 0, 7, 0, 8]])
    # 5 covers exactly half of 1; 7 covers two of the three pixels of 2 and one beside; 3 is missed.
    assert cell_scores(reference, prediction) == {1: 0.0, 2: 2 / 4, 3: 0.0}


def test_pooled_mean_is_over_cells_and_not_over_frames():
    good = (np.array([[1, 1, 2, 2]]), np.array([[1, 1, 2, 2]]))
    missed = (np.array([[1, 1, 0, 0]]), np.array([[0, 0, 0, 9]]))
    empty = (np.array([[0, 0, 0, 0]]), np.array([[0, 0, 0, 9]]))
    assert seg([good, missed, empty]) == (2 / 3, [1.0, 0.0, None])


def test_predicted_background_is_no_object():
    assert cell_scores(np.array([[1, 1, 1, 0]]), np.zeros((1, 4), int)) == {1: 0.0}


def test_large_label_ids_and_one_pixel_cells():
    reference = np.array([[0, 2**40, 70_000]])
    assert cell_scores(reference, np.array([[0, 2**33, 1]])) == {70_000: 1.0, 2**40: 1.0}


@pytest.mark.skipif(not DATA, reason="UNET_SLIDES_DATA is not set: no DIC-HeLa frames")
def test_silver_against_gold_is_the_challenges_figure():
    folder = Path(DATA) / "dic-hela" / "01"
    names = sorted(path.name for path in (folder / "gold").glob("*.tif"))
    assert len(names) == 9
    pooled, frames = seg(
        (tifffile.imread(folder / "gold" / name), tifffile.imread(folder / "silver" / name))
        for name in names
    )
    assert pooled == pytest.approx(0.9537055813, abs=1e-10)
    assert len(frames) == 9
    assert min(frames) < pooled < max(frames)
