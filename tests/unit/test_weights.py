"""The weight map against its definition, piece by piece; all maps from synthetic labels."""

import numpy as np
import pytest
from scipy import ndimage
from slideunet import border, distances, weights
from slideunet.errors import UserError

PAPER = weights.resolve({"preset": "paper"})
FALK = weights.resolve({"preset": "falk2019"})


def random_cells(seed: int, shape=(150, 170), cells=25, radius=9) -> np.ndarray:
    """Overlapping discs with large, scattered ids, some of them cut by the image's edge; int32."""
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.int32)
    y, x = np.indices(shape)
    for number in rng.choice(2**31 - 1, cells, replace=False):
        cy, cx = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        label[(y - cy) ** 2 + (x - cx) ** 2 <= rng.integers(1, radius) ** 2] = number
    return label


def two_distances(label: np.ndarray) -> np.ndarray:
    """d1, d2 by definition: one distance transform of the whole image per cell; inf for no cell."""
    cells = [ndimage.distance_transform_edt(label != i) for i in np.unique(label[label > 0])]
    missing = np.full(label.shape, np.inf)
    return np.sort(np.stack([*cells, missing, missing]), axis=0)[:2]


def definition(label: np.ndarray, w0: float, sigma_px: float) -> np.ndarray:
    d1, d2 = two_distances(label)
    return np.where(label > 0, 0, w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma_px**2)))


@pytest.fixture(params=[False, True], ids=["windows", "compiled"])
def compiled(request, monkeypatch):
    monkeypatch.setattr(border, "worth_compiling", lambda label, margin_px: request.param)
    return request.param


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_border_term_is_its_definition_with_one_transform_per_cell(seed, compiled):
    label = random_cells(seed)
    expected = definition(label, 10, 5)
    computed = border.border_term(label, 10, 5)
    assert computed.dtype == np.float32
    assert np.abs(computed - expected).max() <= 1e-6
    assert (computed > 1).any()
    assert (computed[label > 0] == 0).all()


@pytest.mark.parametrize(("w0", "sigma_px"), [(3.0, 2.5), (50.0, 6.0), (10.0, 11.0)])
def test_what_the_window_leaves_out_is_negligible(w0, sigma_px, compiled):
    label = random_cells(3, cells=6, radius=4)
    expected = definition(label, w0, sigma_px)
    computed = border.border_term(label, w0, sigma_px)
    cut = (computed == 0) & (label == 0)
    assert cut.any()
    assert expected[cut].max() < 2.0**-24
    # One rounding to float32, of values of up to 50.
    np.testing.assert_allclose(computed[~cut], expected[~cut].astype(np.float32), rtol=2e-7)


@pytest.mark.parametrize("settings", [PAPER, FALK], ids=["paper", "falk2019"])
def test_blocks_give_what_the_whole_gives(settings, compiled, monkeypatch):
    label = random_cells(4, cells=40)
    label[60:80, 90:120] = -1
    classes = np.where(label < 0, 255, label > 0).astype(np.uint8)
    target, whole = weights.weight_map(label, classes, settings)
    monkeypatch.setattr(border, "BLOCK_PX", 41)
    again, blockwise = weights.weight_map(label, classes, settings)
    np.testing.assert_array_equal(again, target)
    np.testing.assert_array_equal(blockwise, whole)

    halo, top, left = weights.halo_px(settings), 75, 80
    part = (slice(top - halo, None), slice(left - halo, None))
    part_target, part_border = weights.weight_map(label[part], classes[part], settings)
    np.testing.assert_array_equal(part_target[halo:, halo:], target[top:, left:])
    np.testing.assert_array_equal(part_border[halo:, halo:], whole[top:, left:])


@pytest.mark.parametrize("cells", [12, 60])
def test_both_ways_to_the_distances_give_the_same_integers(cells):
    label = np.pad(random_cells(5, cells=cells), 57)
    windows = distances.two_nearest(label, 57, 38, compiled=False)
    columns = distances.two_nearest(label, 57, 38, compiled=True)
    for one, other, reach in zip(windows, columns, (57, 38), strict=True):
        within = one <= reach**2
        assert within.mean() > 0.1
        np.testing.assert_array_equal(within, other <= reach**2)
        np.testing.assert_array_equal(one[within], other[within])


@pytest.mark.parametrize("spread", ["as drawn", "1 to 60", "thousands apart"])
def test_short_and_long_integers_give_the_same_distances(spread, monkeypatch):
    """16-bit arithmetic against 32-bit, whichever way the ids are renumbered."""
    label = np.pad(random_cells(8, cells=60), 57)
    if spread != "as drawn":
        label = np.searchsorted(np.unique(label), label).astype(np.int32)
        label *= 100_003 if spread == "thousands apart" else 1
    label[:20, 70:90] = -1
    short = distances.by_columns(label, 57, 38)
    assert short.dtype == np.int16
    monkeypatch.setattr(distances, "_short", lambda label: None)
    long = distances.by_columns(label, 57, 38)
    assert long.dtype == np.int32
    for one, other, reach in zip(short, long, (57, 38), strict=True):
        within = other <= reach**2
        np.testing.assert_array_equal(one <= reach**2, within)
        np.testing.assert_array_equal(one[within], other[within])


def test_more_instances_than_16_bits_count_are_told_apart():
    label = np.arange(1, 200 * 200 + 1, dtype=np.int32).reshape(200, 200)
    assert distances._short(label) is None
    assert distances._short(label * 50_000) is None
    nearest = distances.by_columns(label, 10, 10)
    assert (nearest[0] == 0).all()
    assert (nearest[1] == 1).all()


def test_many_cells_are_worth_compiling_and_few_are_not(monkeypatch):
    monkeypatch.setattr(distances, "_asked_for", {"window_px": 0.0})
    label = np.zeros((2048, 2048), np.int32)
    assert not distances.worth_compiling(label, 30)
    label[:40, :40] = 1
    assert not distances.worth_compiling(label, 30)
    cells = np.arange(64**2, dtype=np.int32).reshape(64, 64).repeat(16, axis=0).repeat(16, axis=1)
    # 4,096 cells in windows of about 76 px a side are 24 Mpx: so it pays at the third block.
    assert [distances.worth_compiling(cells, 30) for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("cells", [0, 1])
def test_fewer_than_two_cells_have_no_border_term(cells, compiled):
    label = np.zeros((60, 50), np.int32)
    label[20:30, 20:30] = 7 * cells
    assert (border.border_term(label, 10, 5) == 0).all()
    balance = border.border_term(label, 50, 6, 0.1, 10)
    assert (balance > 0).any() == (cells == 1)


def test_ignored_pixels_are_background_for_the_distances(compiled):
    label = random_cells(6)
    ignored = np.where((label == 0) & (np.indices(label.shape)[0] > 70), -1, label).astype(np.int32)
    np.testing.assert_array_equal(
        border.border_term(ignored, 10, 5), border.border_term(label, 10, 5)
    )


def test_sigma_of_zero_is_refused():
    with pytest.raises(UserError, match="sigma"):
        border.border_term(np.zeros((9, 9), np.int32), 10, 0)


def touching_pairs(label: np.ndarray) -> int:
    """Pairs of 8-neighbours that belong to different instances."""
    padded = np.pad(label, 1)
    count = 0
    for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):
        other = np.roll(padded, (-dy, -dx), (0, 1))
        count += ((padded > 0) & (other > 0) & (padded != other)).sum()
    return int(count)


@pytest.mark.parametrize("seed", range(4))
def test_after_separation_no_two_instances_touch(seed):
    label = random_cells(seed, cells=80)
    line = weights.separate_touching(label)
    assert touching_pairs(label) > 100
    assert touching_pairs(np.where(line, 0, label)) == 0
    assert (label[line] > 0).all()
    # Nothing is taken away but next to another instance.
    largest = ndimage.maximum_filter(label, 3)
    smallest = ndimage.minimum_filter(np.where(label > 0, label, 2**31 - 1), 3)
    assert (largest[line] != smallest[line]).all()


def line_by_definition(label: np.ndarray) -> np.ndarray:
    """`separate_touching` pixel by pixel, as its docstring has it."""
    height, width = label.shape

    def others(y, x):
        around = [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
        return [p for p in around if 0 <= p[0] < height and 0 <= p[1] < width and label[p] > 0]

    inside = [tuple(p) for p in np.argwhere(label > 0)]
    contact = {p: [q for q in others(*p) if label[q] != label[p]] for p in inside}
    thin = {p: bool(contact[p]) and all(contact[q] for q in others(*p)) for p in inside}
    line = np.zeros(label.shape, bool)
    for p in inside:
        for q in contact[p]:
            line[p] |= label[p] > label[q] if thin[p] == thin[q] else thin[q]
    return line


def test_the_line_is_its_definition():
    rng = np.random.default_rng(1)
    pieces = rng.integers(-1, 4, (30, 20)).repeat(2, axis=1).astype(np.int32)
    for label in (pieces, random_cells(9, (60, 70), cells=40), np.ones((5, 5), np.int32)):
        line = weights.separate_touching(label)
        np.testing.assert_array_equal(line, line_by_definition(label))
    assert not line.any()


def test_the_line_between_two_large_cells_is_one_pixel_wide():
    label = np.repeat([[1] * 6 + [2] * 6], 12, axis=0)
    for image in (label, label.T, 3 - label):
        line = weights.separate_touching(image)
        assert line.sum() == 12
        assert (image[line] == 2).all()
    diagonal = np.tril(np.ones((12, 12), int)) + 1
    line = weights.separate_touching(diagonal)
    assert (line == (diagonal == 2) & ndimage.binary_dilation(diagonal == 1, np.ones((3, 3)))).all()


def test_thin_objects_survive_their_neighbours():
    dot = np.full((9, 9), 5)
    dot[4, 4] = 9
    assert not weights.separate_touching(dot)[4, 4]
    assert weights.separate_touching(dot).sum() == 8
    membrane = np.repeat([[1] * 5 + [2] + [3] * 5], 9, axis=0)
    line = weights.separate_touching(membrane)
    assert not line[:, 5].any()
    assert line[:, 4].all()
    assert line[:, 6].all()
    # Of two dots one has to go.
    assert weights.separate_touching(np.array([[4, 2]])).tolist() == [[True, False]]


def test_separation_ignores_what_nobody_annotated_and_is_the_same_in_blocks(monkeypatch):
    label = random_cells(7, cells=80)
    alone = np.where(label == label[label > 0][0], label, -1)
    assert not weights.separate_touching(alone).any()
    # Many small pieces, so that thin ones meet at the blocks' edges.
    rng = np.random.default_rng(0)
    pieces = rng.integers(0, 4, (90, 80)).repeat(2, axis=1)
    for image in (label, pieces):
        monkeypatch.setattr(border, "BLOCK_PX", 1024)
        whole = weights.separate_touching(image)
        monkeypatch.setattr(border, "BLOCK_PX", 11)
        np.testing.assert_array_equal(weights.separate_touching(image), whole)


def test_weight_map_draws_the_line_into_the_target_only():
    label = np.zeros((20, 24), np.int32)
    label[5:15, 4:12], label[5:15, 12:20], label[:, 22:] = 1, 2, -1
    classes = np.where(label == 2, 3, np.clip(label, 0, 1)).astype(np.uint8)
    target, term = weights.weight_map(label, classes, PAPER)
    assert target.dtype == np.uint8
    assert (target[:, 22:] == 255).all()
    assert (target[5:15, 11] == 1).all()
    assert (target[5:15, 12] == 0).all()
    assert (target[5:15, 13] == 3).all()
    # On the line d1 = d2 = 1.
    np.testing.assert_allclose(term[7:13, 12], 10 * np.exp(-4 / 50), rtol=1e-6)


def test_falk2019_is_the_plugins_formula():
    label = random_cells(8, cells=12)
    target, term = weights.weight_map(label, (label > 0).astype(np.uint8), FALK)
    w_c = weights.class_weights(weights.class_counts(target, 2), FALK)
    cells = np.where(weights.separate_touching(label), 0, label)
    d1, d2 = two_distances(cells)
    balance = 0.1 + 0.9 * np.exp(-(d1**2) / 200)
    separation = 50 * np.exp(-((d1 + d2) ** 2) / 72)
    expected = np.where(cells > 0, 1, balance + separation)
    np.testing.assert_allclose(w_c[target] + term, expected, rtol=3e-7, atol=2e-7)


def test_class_counts_leave_ignored_pixels_out():
    target = np.array([[0, 0, 0, 1], [2, 255, 255, 1]], np.uint8)
    assert weights.class_counts(target, 4).tolist() == [3, 2, 1, 0]
    assert weights.class_counts(target, 4).dtype == np.int64
    assert weights.class_counts(np.ones((2500, 3), np.uint8), 2).tolist() == [0, 7500]
    with pytest.raises(UserError, match="class index 2 .* 2 classes"):
        weights.class_counts(target, 2)


def test_class_weights_by_method():
    counts = [800, 100, 0, 50]

    def by(balance, **more):
        return weights.class_weights(counts, {"class_balance": balance, **more}).tolist()

    assert by("rarest_one") == [0.0625, 0.5, 1, 1]
    balanced = np.array(by("mean_one"))
    np.testing.assert_allclose((balanced * counts)[[0, 1, 3]], 950 / 3, rtol=1e-6)
    assert by("foreground_one", foreground_background_ratio=0.25) == [0.25, 1, 1, 1]
    assert by("none") == [1, 1, 1, 1]
    assert by([1, 2, 3, 4]) == [1, 2, 3, 4]
    for balance, message in (("median", "no method 'median'"), ([1, 2], "2 weights, 4 classes")):
        with pytest.raises(UserError, match=message):
            by(balance)
    with pytest.raises(UserError, match="one class only"):
        weights.class_weights([70, 0], PAPER)


def test_presets_hold_the_published_numbers():
    assert (PAPER["w0"], PAPER["sigma_px"]) == (10, 5)
    assert (FALK["w0"], FALK["sigma_px"], FALK["balance_sigma_px"]) == (50, 6, 10)
    assert FALK["foreground_background_ratio"] == 0.1
    assert weights.resolve({"preset": "falk2019", "w0": 1}) == FALK
    custom = weights.resolve({"preset": "custom", "w0": 3, "class_balance": "none"})
    assert custom == PAPER | {"w0": 3, "class_balance": "none"}
    with pytest.raises(UserError, match="no preset 'papre'"):
        weights.preset("papre")
    with pytest.raises(UserError, match="foreground_background_ratio is missing"):
        weights.resolve({"preset": "custom", "balance_sigma_px": 4})
