"""Where tissue is: found on bright field and fluorescence, never lost, replaceable."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from slideunet.errors import UserError
from slideunet.quality import focus_of, slide_quality
from slideunet.readers.open import open_slide
from slideunet.slides import read_overview
from slideunet.tissue import find_tissue
from slideunet.tissue_mask import Tissue
from slideunet.tissue_outlines import _wider, from_geojson, to_geojson

DATA = Path(os.environ["UNET_SLIDES_DATA"]) if "UNET_SLIDES_DATA" in os.environ else None
needs_data = pytest.mark.skipif(DATA is None, reason="UNET_SLIDES_DATA is not set")

GLASS, PINK, GREEN, BLUE, BLACK = (
    np.array(c)
    for c in ((243, 242, 244), (222, 160, 200), (40, 150, 110), (40, 40, 150), (25, 25, 28))
)


def disc(height, width, y, x, radius):
    rows, columns = np.mgrid[0:height, 0:width]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


def bright_field(seed=0):
    """An overview with a disc of tissue of 60 px at (100, 120), on glass."""
    rng = np.random.default_rng(seed)
    image = np.tile(GLASS, (200, 300, 1)).astype(float)
    tissue = disc(200, 300, 100, 120, 60)
    image[tissue] = PINK + rng.normal(0, 12, (tissue.sum(), 1))
    image += rng.normal(0, 1.5, image.shape)
    return image, tissue


def as_overview(image):
    return np.moveaxis(np.clip(np.rint(image), 0, 255).astype(np.uint8), -1, 0)


def found_in(image, mpp=(0.5, 0.5), scale=(20, 20)):
    return find_tissue(as_overview(image), scale, mpp, True)


def test_bright_field_tissue_is_found_and_glass_is_not():
    image, truth = bright_field()
    tissue = found_in(image)
    assert tissue.source == "bright field"
    assert tissue.mask[truth].all()
    assert not tissue.mask[~ndimage.binary_dilation(truth, iterations=4)].any()


def test_blank_glass_has_no_tissue():
    rng = np.random.default_rng(0)
    assert not found_in(
        np.tile(GLASS, (200, 300, 1)) + rng.normal(0, 1.5, (200, 300, 3))
    ).mask.any()


def test_a_slide_that_is_all_tissue_is_all_tissue():
    rng = np.random.default_rng(0)
    assert found_in(PINK + rng.normal(0, 12, (200, 300, 1))).mask.all()


@pytest.mark.parametrize("ink", [GREEN, BLUE, BLACK], ids=["green", "blue", "black"])
def test_pen_marks_are_taken_out(ink):
    image, truth = bright_field()
    stroke = np.zeros(truth.shape, bool)
    stroke[20:180, 230:240] = True
    stroke[95:105, 60:230] = True  # over the tissue, too
    image[stroke] = ink
    tissue = found_in(image)
    assert not (tissue.mask & (stroke | tissue.pen)).any()
    assert tissue.pen[stroke].all()
    assert tissue.mask[truth & ~ndimage.binary_dilation(stroke, iterations=4)].all()
    whole = slide_quality(as_overview(image), tissue, (0.5, 0.5), [], 200 * 300 * 400, True)
    assert 0.2 < whole["pen_fraction"] < 0.45


def test_a_blue_stain_is_no_pen():
    image, truth = bright_field()
    image[truth] = BLUE + np.random.default_rng(0).normal(0, 12, (truth.sum(), 1))
    tissue = found_in(image)
    assert tissue.mask[truth].all() and not tissue.pen.any()


def test_dust_is_dropped_and_lumina_are_filled():
    image, truth = bright_field()
    image[50:56, 250:256] = PINK
    image[95:105, 115:125] = GLASS
    tissue = found_in(image, mpp=(0.5, 0.5), scale=(20, 20))
    assert not tissue.mask[40:60, 240:260].any()
    assert tissue.mask[truth].all()


def fluorescence(cells, height=200, width=300, seed=0, signal=30.0):
    """A noisy dark background with a vignette, and single dim pixels as cells."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    image = 100 + 4 * np.cos(rows / height) + 3 * np.cos(columns / width)
    image += rng.normal(0, 1.0, image.shape)
    places = rng.integers(5, (height - 5, width - 5), (cells, 2))
    image[tuple(places.T)] += signal
    image[tuple(places[: cells // 4].T)] += 100 * signal  # some are bright
    return np.rint(image).astype(np.uint16)[None], places


@pytest.mark.parametrize("cells", [1, 40, 400])
def test_sparse_fluorescence_loses_no_cell(cells):
    overview, places = fluorescence(cells)
    tissue = find_tissue(overview, (24.0, 24.0), (0.65, 0.65), False)
    assert tissue.source == "intensity"
    assert tissue.mask[tuple(places.T)].all()
    if cells == 400:  # fewer than a thousandth of the picture: taken whole, to be safe
        assert tissue.mask.mean() < 0.5


def test_a_dim_second_channel_counts():
    overview, places = fluorescence(20)
    both = np.concatenate([np.full_like(overview, 50), overview])
    assert find_tissue(both, (24, 24), None, False).mask[tuple(places.T)].all()


def test_pictures_without_a_dark_background_are_all_tissue():
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(200, 300)), 12)
    texture = np.rint(120 + 40 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)[None]
    assert find_tissue(texture, (1, 1), None, False).mask.all()


def test_nothing_but_background_has_no_tissue():
    assert not find_tissue(np.full((1, 90, 80), 7, np.uint8), (1, 1), None, False).mask.any()


def test_tissue_all_takes_everything():
    tissue = find_tissue(np.full((1, 90, 80), 7, np.uint8), (1, 1), None, False, mode="all")
    assert tissue.mask.all() and tissue.source == "all"


def test_questions_for_windows():
    mask = np.zeros((10, 12), bool)
    mask[4, 5] = True
    tissue = Tissue(mask, np.zeros_like(mask), (32.5, 32.5), "x")
    y, x = 4 * 32.5, 5 * 32.5
    assert tissue.tissue_in(y, x, 32, 32)
    assert tissue.tissue_in(y - 100, x - 100, 101, 101)  # touches it by a pixel
    assert not tissue.tissue_in(y - 100, x - 100, 99, 99)
    assert not tissue.tissue_in(y + 33, x, 100, 100)
    assert tissue.tissue_in(0, 0, 325, 390)
    mask[9, 11] = True
    tissue = Tissue(mask, mask, (32.5, 32.5), "x")
    assert tissue.tissue_in(9 * 32.5 + 40, 11 * 32.5 + 40, 5, 5)  # the fraction beyond the mask


def polygon_mask(features, shape):
    from skimage.draw import polygon2mask

    mask = np.zeros(shape, bool)
    for feature in features:
        outer, *inner = feature["geometry"]["coordinates"]
        part = polygon2mask(shape, np.array(outer)[:, ::-1] - 0.5)
        for ring in inner:
            part &= ~polygon2mask(shape, np.array(ring)[:, ::-1] - 0.5)
        mask |= part
    return mask


def test_outlines_are_exact_to_the_pixel_and_come_back(tmp_path):
    rng = np.random.default_rng(3)
    mask = ndimage.binary_opening(ndimage.gaussian_filter(rng.normal(size=(60, 80)), 3) > 0.02)
    tissue = Tissue(mask, np.zeros_like(mask), (20.0, 20.0), "x")
    content = to_geojson(tissue, 1195, 1600)
    assert max(p[1] for f in content["features"] for p in f["geometry"]["coordinates"][0]) <= 1195
    level0 = polygon_mask(content["features"], (1200, 1600))[:1195]
    np.testing.assert_array_equal(level0, mask.repeat(20, 0).repeat(20, 1)[:1195])
    (tmp_path / "a.geojson").write_text(json.dumps(content))
    back = from_geojson(str(tmp_path / "a.geojson"), mask.shape, (20.0, 20.0))
    np.testing.assert_array_equal(back.mask, ndimage.binary_dilation(mask, np.ones((3, 3))))
    assert back.source == "outlines"


def test_users_outlines_as_qupath_writes_them(tmp_path):
    ring = [[100, 40], [300, 40], [300, 160], [100, 160], [100, 40]]
    hole = [[180, 80], [220, 80], [220, 120], [180, 120], [180, 80]]
    shape = {"type": "MultiPolygon", "coordinates": [[ring, hole]]}
    feature = {"type": "Feature", "geometry": shape, "properties": {}}
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}
    tiny = {"type": "Polygon", "coordinates": [[[601, 201], [602, 201], [602, 202], [601, 201]]]}
    for content in ([feature, point, tiny], {"features": [feature, tiny]}):
        (tmp_path / "a.geojson").write_text(json.dumps(content))
        mask = from_geojson(str(tmp_path / "a.geojson"), (30, 80), (10.0, 10.0)).mask
        assert mask[4:16, 10:30].sum() == 12 * 20 - 4  # the hole, less what is touched
        assert mask[20, 60] and mask.sum() < 14 * 22 + 10


UNUSABLE = ["", "{", "[]", "nul", '{"features": [3]}', '{"type": "Point", "coordinates": [1, 2]}']
UNUSABLE += ['{"type": "Polygon", "coordinates": [[[0, 0], [1, "x"], [1, 1]]]}']
UNUSABLE += ['{"type": "Polygon", "coordinates": [[[9e3, 9e3], [9.1e3, 9e3], [9e3, 9.1e3]]]}']


@pytest.mark.parametrize("text", UNUSABLE)
def test_outlines_that_cannot_be_used(tmp_path, text):
    path = str(tmp_path / "a.geojson")
    Path(path).write_text(text)
    with pytest.raises(UserError, match=r"a\.geojson: "):
        from_geojson(path, (30, 80), (10.0, 10.0))


def test_outlines_are_widened_as_scipy_does():
    mask = np.random.default_rng(0).random((37, 50)) < 0.05
    for corner in (mask, mask[:1], mask[:, :1]):
        np.testing.assert_array_equal(
            _wider(corner), ndimage.binary_dilation(corner, np.ones((3, 3)))
        )


def test_quality_figures():
    sharp = np.random.default_rng(0).integers(0, 255, (3, 64, 64), np.uint8)
    blurred = ndimage.gaussian_filter(sharp, (0, 2, 2))
    assert focus_of(sharp) > 50 * focus_of(blurred) > 0
    image, _ = bright_field()
    tissue = found_in(image)
    figures = slide_quality(
        as_overview(image), tissue, (0.5, 0.5), [3.0, 9.0, 4.0], 60000 * 400, True
    )
    assert figures["focus"] == 4.0
    assert figures["tissue_px"] == tissue.mask.sum() * 400
    assert figures["tissue_mm2"] == pytest.approx(figures["tissue_px"] * 0.25e-6)
    assert figures["saturation"] == pytest.approx((222 - 160) / 222, abs=0.06)
    grey = slide_quality(as_overview(image), tissue, None, [], 60000, False)
    assert grey["tissue_mm2"] is grey["saturation"] is grey["focus"] is None


@needs_data
def test_real_slide_with_pen():
    """The glass between, the green and blue strokes and the tissue of small_dicom.dcm."""
    with open_slide(DATA / "slides/small_dicom.dcm") as reader:
        overview, scale = read_overview(reader, 1024)
    tissue = find_tissue(overview, scale, None, True)
    assert 0.38 < tissue.mask.mean() < 0.48 and 0.05 < tissue.pen.mean() < 0.1
    assert tissue.mask[300, 150] and tissue.mask[600, 430] and tissue.mask[700, 800]
    assert not tissue.mask[600, 560] and not tissue.mask[150:170, 5:30].any()
    assert tissue.pen[240, 230] and tissue.pen[100, 640]
