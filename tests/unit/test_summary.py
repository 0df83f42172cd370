"""One row per slide, densities, and the fields to annotate next."""

import json

import numpy as np
import pytest
from shapely.geometry import shape
from slideunet.entropy import fields_geojson, rank_fields
from slideunet.errors import SlideError
from slideunet.geojson import Style, qupath_placement
from slideunet.summary import densest_fields, density_map, summarize


def test_summary_of_known_objects():
    area = np.arange(1, 102)
    classes = np.array([1] * 81 + [2] * 20)
    names = ["background", "nucleus", "Mitotic figure"]
    row = summarize(area, classes, names, mpp_um=(0.25, 2), tissue_area_um2=2e6)
    assert row == {
        "objects": 101, "density_per_mm2": 50.5, "area_um2_q05": 3, "area_um2_q25": 13,
        "area_um2_q50": 25.5, "area_um2_q75": 38, "area_um2_q95": 48,
        "area_px_q05": 6, "area_px_q25": 26, "area_px_q50": 51, "area_px_q75": 76,
        "area_px_q95": 96,
        "fraction_nucleus": 81 / 101, "fraction_mitotic_figure": 20 / 101,
    }  # fmt: skip
    unknown = summarize(area, classes, names)
    assert unknown.keys() == row.keys()
    assert unknown["density_per_mm2"] is None and unknown["area_um2_q50"] is None
    assert unknown["area_px_q50"] == 51
    empty = summarize(area[:0], classes[:0], names, mpp_um=(0.5, 2), tissue_area_um2=2e6)
    assert empty.keys() == row.keys()
    assert empty["objects"] == empty["density_per_mm2"] == 0
    assert empty["area_um2_q50"] is None and empty["fraction_nucleus"] is None


def test_density_counts_each_object_once():
    random = np.random.default_rng(0)
    y, x = random.uniform(-0.5, 99.4, 500), random.uniform(-0.5, 69.4, 500)
    density = density_map(y, x, (100, 70), 33.4)
    assert density.shape == (3, 3) and density.sum() == 500
    assert density[0, 1] == ((y + 0.5 < 33.4) & (x + 0.5 >= 33.4) & (x + 0.5 < 66.8)).sum()
    first, *rest = densest_fields(density, 3)
    assert density[first] == density.max() and len(rest) == 2
    assert densest_fields(np.array([[0, 2], [3, 0]]), 5) == [(1, 0), (0, 1)]


def unsure(values: dict[tuple[int, int], int]) -> np.ndarray:
    """A map (2, 60, 90) uint8, sure but for 20-px fields with the given probability."""
    one = np.zeros((60, 90), np.uint8)
    for (y, x), value in values.items():
        one[y : y + 20, x : x + 20] = value
    return np.stack([255 - one, one])


def test_fields_are_ranked_by_entropy(monkeypatch):
    probabilities = unsure({(20, 40): 120, (0, 60): 128, (40, 0): 30})
    found = rank_fields(probabilities, 20, 3)
    assert [(field.y, field.x) for field in found] == [(0, 60), (20, 40), (40, 0)]
    p = np.array([128, 127]) / 255
    assert found[0].score == pytest.approx(-(p * np.log(p)).sum(), abs=1e-6)
    assert len(rank_fields(probabilities, 20, 100)) == 3 * 4  # the last 10 columns are no field
    monkeypatch.setattr("slideunet.entropy.READ_PX", 45)
    assert rank_fields(probabilities, 20, 3) == found
    as_float = (probabilities / 255).astype(np.float32)
    assert [field.x for field in rank_fields(as_float, 20, 3)] == [60, 40, 0]


def test_fields_without_tissue_are_left_out():
    tissue = np.ones((60, 90), np.uint8)
    tissue[0:11, 60:80] = 0
    probabilities = unsure({(20, 40): 120, (0, 60): 128})
    assert rank_fields(probabilities, 20, 1, tissue=tissue)[0].y == 20
    assert rank_fields(probabilities, 20, 1, tissue=tissue, tissue_fraction=0.4)[0].y == 0


def test_some_rows_and_columns_stand_for_all():
    probabilities = unsure({(20, 40): 120, (0, 60): 128, (40, 0): 30})
    whole, some = (rank_fields(probabilities, 20, 3, every_px=n) for n in (1, 6))
    assert whole == some  # even fields: every fifth pixel, 6 is no divisor of 20
    probabilities[0, 20:40:2, 40:60:2] = 0  # sure at each second row and column
    assert [field.x for field in rank_fields(probabilities, 20, 3)] == [60, 40, 0]
    assert [field.x for field in rank_fields(probabilities, 20, 2, every_px=2)] == [60, 0]


class Recorded:
    """An array that notes which windows were read."""

    def __init__(self, values):
        self.values, self.shape, self.read = values, values.shape, []

    def __getitem__(self, where):
        self.read.append(where)
        return self.values[where]


def test_glass_is_not_read():
    tissue = np.zeros((60, 90), bool)
    tissue[20:40] = True
    probabilities = Recorded(unsure({(20, 40): 120, (0, 60): 128}))
    (best,) = rank_fields(probabilities, 20, 1, tissue=tissue)
    assert (best.y, best.x) == (20, 40)
    assert {rows.start for _, rows, _ in probabilities.read} == {20}


def test_disagreement_is_not_common_doubt():
    common = unsure({(0, 0): 128})
    one, other = common.copy(), common.copy()
    one[:, 20:40, 20:40] = [[[255]], [[0]]]
    other[:, 20:40, 20:40] = [[[0]], [[255]]]
    (first,) = rank_fields(one, 20, 1, others=[other])
    assert (first.y, first.x) == (20, 20)
    assert first.score == pytest.approx(np.log(2), abs=1e-6)
    ranked = rank_fields(one, 20, 100, others=[other])
    assert all(abs(field.score) < 1e-6 for field in ranked[1:])


def test_fields_for_qupath():
    found = rank_fields(unsure({(20, 40): 128}), 20, 2)
    placement = qupath_placement((16, 8), (100, 7, 5000, 5000))
    read = json.loads(fields_geojson(found, placement, Style("Annotate next", (255, 128, 0))))
    first, second = read["features"]
    polygon = shape(first["geometry"])
    assert polygon.bounds == (40 * 8 - 7, 20 * 16 - 100, 60 * 8 - 7, 40 * 16 - 100)
    assert polygon.exterior.is_ccw
    assert first["properties"]["objectType"] == "annotation"
    assert first["properties"]["classification"]["name"] == "Annotate next"
    assert first["properties"]["measurements"]["entropy (nats)"] == found[0].score
    assert [feature["properties"]["name"] for feature in (first, second)] == ["1", "2"]


def test_small_slides_and_bad_input():
    (field,) = rank_fields(unsure({}), 500, 3)
    assert (field.height, field.width) == (60, 90)
    assert rank_fields(np.zeros((2, 0, 5), np.uint8), 20, 3) == []
    bad = np.full((2, 60, 90), 0.5, np.float32)
    bad[0, 30, 50] = np.nan
    with pytest.raises(SlideError, match="nan for class 0 at y=30, x=50"):
        rank_fields(bad, 20, 3)
    with pytest.raises(SlideError, match=r"tissue is \(9, 9\)"):
        rank_fields(unsure({}), 20, 3, tissue=np.ones((9, 9)))
    with pytest.raises(SlideError, match="another model's map"):
        rank_fields(unsure({}), 20, 3, others=[np.ones((2, 9, 9))])
