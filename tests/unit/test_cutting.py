"""Regions cut from a picture for training, at another pixel size, and stacked."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from slideunet.cutting import stacked, windows_around
from slideunet.errors import UserError
from slideunet.images import Picture
from slideunet.polygons import Outline
from slideunet.readers.open import open_slide
from slideunet.resample import SlideView
from slideunet.stages.ingest import ingest
from slideunet.store import load
from slideunet.training_labels import placed, unconfirmed

CLASSES = ["background", "nucleus"]
SIZE = (240, 300)


def box(y, x, height, width):
    return np.array([(y, x), (y, x + width), (y + height, x + width), (y + height, x)], float)


def outline(*values, name="Region*"):
    return Outline(name, ((box(*values),),))


def test_windows_hold_the_margin_and_do_not_overlap():
    whole = (1000, 1000)
    assert windows_around([outline(100, 200, 10, 20)], whole, 30) == [(70, 170, 70, 80)]
    assert windows_around([outline(5, 990, 10, 20)], whole, 30) == [(0, 960, 45, 40)]  # cut
    apart = [outline(100, 100, 10, 10), outline(500, 500, 10, 10)]
    assert windows_around(apart, whole, 30) == windows_around(apart[::-1], whole, 30)
    assert len(windows_around(apart, whole, 30)) == 2
    # The third joins the other two, which then reach the fourth.
    chain = [outline(100, 100, 10, 10), outline(100, 300, 10, 10), outline(100, 200, 10, 10),
             outline(160, 240, 10, 10)]  # fmt: skip
    assert windows_around(chain, whole, 50) == [(50, 50, 170, 310)]
    assert windows_around([outline(1200, 0, 10, 10), apart[0]], whole, 0) == [(100, 100, 10, 10)]


def test_pieces_are_stacked_and_numbered_through():
    narrow = (np.arange(6, dtype=np.uint8).reshape(1, 2, 3), np.array([[0, 9, 9], [-1, 0, 4]]),
              np.array([[0, 1, 1], [255, 0, 1]], np.uint8))  # fmt: skip
    wide = (np.full((1, 1, 5), 7, np.uint8), np.array([[4, 0, 0, 0, 4]]),
            np.array([[1, 0, 0, 0, 1]], np.uint8))  # fmt: skip
    assert stacked([narrow]) is narrow
    image, label, classes = stacked([narrow, wide])
    assert image[0].tolist() == [[0, 1, 2, 2, 1], [3, 4, 5, 5, 4], [7] * 5]  # mirrored
    assert label.tolist() == [[0, 2, 2, -1, -1], [-1, 0, 1, -1, -1], [3, 0, 0, 0, 3]]
    assert label.dtype == np.int32
    assert classes.tolist() == [[0, 1, 1, 255, 255], [255, 0, 1, 255, 255], [1, 0, 0, 0, 1]]


# --- rows of the training table


@pytest.fixture
def slide(tmp_path) -> Path:
    """A slide of 240 x 300 px of 0.25 um."""
    pixels = np.random.default_rng(0).integers(0, 4096, SIZE, dtype=np.uint16)
    size = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    path = tmp_path / "slide.ome.tif"
    tifffile.imwrite(path, pixels, tile=(64, 64), metadata={"axes": "YX", **size})
    return path


def geojson(path: Path, *outlines: Outline) -> str:
    features = []
    for one in outlines:
        ring = one.parts[0][0][:, ::-1].tolist()
        geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
        properties = {"objectType": "annotation"}
        if one.name:
            properties["classification"] = {"name": one.name}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return str(path)


def run(folder: Path, image, label, **row):
    manifest = folder / "images" / "a.json"
    ingest(image=str(image), label=str(label), manifest=str(manifest),
           settings={"classes": CLASSES, **row}, code={})  # fmt: skip
    group = zarr.open_group(str(manifest.with_suffix(".zarr")), mode="r")
    return load(manifest)["facts"], group["image"][...], group["label"][...]


def nuclei(*boxes):
    return [outline(*values, name="nucleus") for values in boxes]


def test_regions_of_interest_are_cut_and_the_rest_is_not_annotated(slide, tmp_path, monkeypatch):
    monkeypatch.setattr("slideunet.stages.ingest.MARGIN_PX", 16)
    label = geojson(
        tmp_path / "a.geojson", outline(20, 20, 40, 40), outline(150, 200, 30, 60),
        *nuclei((30, 30, 10, 10), (160, 210, 5, 5), (100, 100, 9, 9)),
    )  # fmt: skip
    facts, image, labels = run(tmp_path, slide, label)
    assert facts["windows"] == [[4, 4, 72, 72], [134, 184, 62, 92]]
    pixels = tifffile.imread(slide)
    np.testing.assert_array_equal(image[0, :72, :72], pixels[4:76, 4:76])
    np.testing.assert_array_equal(image[0, 72:], pixels[134:196, 184:276])
    assert facts["objects"] == 2, "the third was drawn where nobody looked"
    assert (labels >= 0).sum() == 40 * 40 + 30 * 60
    assert (labels[26:36, 26:36] == 1).all() and (labels[98:103, 26:31] == 2).all()
    # One row for each region by hand gives the same pixels.
    facts, image, again = run(tmp_path, slide, label, region="134,184,62,92")
    assert facts["windows"] == [[134, 184, 62, 92]]
    np.testing.assert_array_equal(again > 0, labels[72:] > 0)


def test_column_annotated_cuts_too(slide, tmp_path):
    nucleus = geojson(tmp_path / "a.geojson", *nuclei((30, 30, 10, 10)))
    regions = geojson(tmp_path / "r.geojson", outline(20, 20, 40, 40, name=""))
    facts, _, labels = run(tmp_path, slide, nucleus, annotated=regions)
    assert facts["windows"] == [[0, 0, 240, 252]]
    assert (labels >= 0).sum() == 1600 and (labels > 0).sum() == 100


def test_proposals_are_passed_over(slide, tmp_path):
    proposal = outline(0, 0, 100, 100, name="Annotate next")
    label = geojson(tmp_path / "a.geojson", proposal, *nuclei((30, 30, 10, 10)))
    facts, _, labels = run(tmp_path, slide, label)
    assert facts["shape"] == [1, *SIZE] and (labels == 1).sum() == 100 and (labels < 0).sum() == 0


def test_another_pixel_size_is_the_view_that_a_slide_is_segmented_at(slide, tmp_path):
    label = geojson(tmp_path / "a.geojson", *nuclei((30, 33, 20, 21)))
    facts, image, labels = run(tmp_path, slide, label, to_mpp_um="0.6")
    with open_slide(str(slide)) as reader:
        view = SlideView(reader, (2.4, 2.4))
        wanted = view.read(0, 0, 100, 125)
    np.testing.assert_array_equal(image, wanted)
    assert facts["mpp_um"] == 0.6 and facts["shape"] == [1, 100, 125]
    y, x = np.mgrid[:100, :125] + 0.5
    inside = (y * 2.4 >= 30) & (y * 2.4 < 50) & (x * 2.4 > 33) & (x * 2.4 < 54)
    np.testing.assert_array_equal(labels == 1, inside)
    # A region counts in the file's pixels.
    facts, part, _ = run(tmp_path, slide, label, to_mpp_um="0.6", region="24,48,120,96")
    np.testing.assert_array_equal(part, wanted[:, 10:60, 20:60])
    # The table's pixel size goes before the file's; 2 % is no other size.
    facts, image, _ = run(tmp_path, slide, label, to_mpp_um="0.6", mpp_um="0.59")
    assert facts["shape"] == [1, *SIZE] and facts["mpp_um"] == 0.6


def test_outlines_count_from_the_scanned_area_in_the_files_pixels():
    picture = Picture(np.zeros((1, 50, 60)), (100, 200, 50, 60), (1000, 1000), ["grey"], None,
                      (210, 400), (2.0, 4.0), (2000, 4000))  # fmt: skip
    (moved,) = placed("a.geojson", [outline(10, 40, 4, 8)], picture)
    np.testing.assert_array_equal(moved.parts[0][0], box(110, 110, 2, 2))
    (moved,) = placed("a.xml", [outline(220, 440, 4, 8)], picture)
    np.testing.assert_array_equal(moved.parts[0][0], box(110, 110, 2, 2))


def test_label_images_follow_the_pixel_size(slide, tmp_path):
    whole = np.zeros(SIZE, np.uint16)
    whole[30:70, 40:80] = 5
    coarse = np.zeros((120, 150), np.uint16)
    coarse[15:35, 20:40] = 5
    for name, values in (("whole.tif", whole), ("coarse.tif", coarse)):
        tifffile.imwrite(tmp_path / name, values)
        for region, window in ((None, np.s_[:, :]), ("20,20,60,80", np.s_[10:40, 10:50])):
            row = {"to_mpp_um": "0.5"} | ({"region": region} if region else {})
            _, _, labels = run(tmp_path, slide, tmp_path / name, **row)
            np.testing.assert_array_equal(labels, coarse[window])
    tifffile.imwrite(tmp_path / "odd.tif", coarse[:-1])
    with pytest.raises(UserError, match=r"odd\.tif: is 119 x 150 px .*, its image 120 x 150"):
        run(tmp_path, slide, tmp_path / "odd.tif", to_mpp_um="0.5")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"to_mpp_um": "0.5", "mpp_um": "0"}, "a pixel size of 0 in the table can't be true"),
        ({"to_mpp_um": "0"}, "in column to_mpp_um"),
        ({"region": "0,0,10,10"}, "all background, no object"),
    ],
)
def test_mistakes_are_one_line(slide, tmp_path, row, said):
    label = geojson(tmp_path / "a.geojson", *nuclei((30, 33, 20, 21)))
    with pytest.raises(UserError, match=said) as caught:
        run(tmp_path, slide, label, **row)
    assert "\n" not in str(caught.value)


def test_an_image_without_a_pixel_size_and_regions_beyond_it(slide, tmp_path):
    tifffile.imwrite(tmp_path / "silent.tif", np.zeros(SIZE, np.uint8))
    label = geojson(tmp_path / "a.geojson", *nuclei((30, 33, 20, 21)))
    with pytest.raises(UserError, match=r"silent\.tif: has no pixel size, .* 0\.5 um .* mpp_um"):
        run(tmp_path, tmp_path / "silent.tif", label, to_mpp_um="0.5")
    label = geojson(tmp_path / "b.geojson", outline(900, 900, 9, 9), *nuclei((30, 33, 20, 21)))
    with pytest.raises(UserError, match="all annotated regions lie beyond the picture"):
        run(tmp_path, slide, label)


# --- OME-Zarr: labels, and stacks by page


def write_store(path: Path, values: np.ndarray, axes: str, version: str, **more) -> None:
    named = [{"name": n, "type": "space"} for n in axes]
    scale = [{"type": "scale", "scale": [1.0] * len(axes)}]
    ome = {"multiscales": [
        {"axes": named, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    ], **more}  # fmt: skip
    v3 = version == "0.5"
    attributes = {"ome": {"version": version, **ome}} if v3 else ome
    group = zarr.create_group(path, zarr_format=3 if v3 else 2, attributes=attributes)
    chunks = (1,) * (values.ndim - 2) + (64, 64)
    group.create_array("0", shape=values.shape, chunks=chunks, dtype=values.dtype)[...] = values


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_labels_and_pages(tmp_path, version):
    random = np.random.default_rng(2)
    stack = random.integers(0, 255, (3, 2, 80, 90), dtype=np.uint8)
    labels = np.zeros((3, 2, 80, 90), np.uint32)
    labels[1, 1, 10:20, 10:20], labels[1, 1, 30:40, 30:40] = 7, 2**31 - 1
    write_store(tmp_path / "s.zarr", stack, "tzyx", version)
    write_store(tmp_path / "l.zarr", labels, "tzyx", version, **{"image-label": {"version": "0.4"}})
    write_store(tmp_path / "one.zarr", labels[1, 1], "yx", version, **{"image-label": {}})
    _, image, found = run(tmp_path, tmp_path / "s.zarr", tmp_path / "l.zarr", page="3")
    np.testing.assert_array_equal(image[0], stack[1, 1])
    np.testing.assert_array_equal(found, labels[1, 1])
    tifffile.imwrite(tmp_path / "i.tif", stack[1, 1])
    _, _, found = run(tmp_path, tmp_path / "i.tif", tmp_path / "one.zarr")
    np.testing.assert_array_equal(found, labels[1, 1])
    with pytest.raises(UserError, match=r"page 6 is wanted, the last of its 6 is 5"):
        run(tmp_path, tmp_path / "s.zarr", tmp_path / "l.zarr", page="6")
    with pytest.raises(UserError, match=r"a stack of 6 sections: .*column page \(0 to 5\)"):
        run(tmp_path, tmp_path / "s.zarr", tmp_path / "l.zarr")


# --- partly annotated frames: gold and silver truth


def test_objects_of_the_silver_truth_that_the_gold_lacks_are_not_annotated(tmp_path):
    silver, gold = np.zeros((2, 60, 70), np.uint16)
    silver[5:25, 5:25], silver[5:25, 30:50], silver[40:50, 10:30] = 1, 2, 3
    gold[7:23, 7:23] = 9  # drawn smaller: its rim stays background
    gold[5:15, 30:50] = 4  # half of it only
    for name, values in (("silver", silver), ("gold", gold), ("image", silver)):
        tifffile.imwrite(tmp_path / f"{name}.tif", values)
    gone = (silver == 3) | ((silver == 2) & (gold == 0))
    np.testing.assert_array_equal(unconfirmed(silver, gold), (silver == 3) | (silver == 2))
    facts, _, labels = run(
        tmp_path, tmp_path / "image.tif", tmp_path / "gold.tif", silver=str(tmp_path / "silver.tif")
    )
    np.testing.assert_array_equal(labels, np.where(gone, -1, gold.astype(int)))
    assert facts["not_annotated_px"] == gone.sum()


def test_dic_hela_with_its_silver_truth(tmp_path):
    if "UNET_SLIDES_DATA" not in os.environ:
        pytest.skip("UNET_SLIDES_DATA is not set: no DIC-HeLa images")
    root = Path(os.environ["UNET_SLIDES_DATA"]) / "dic-hela/01"
    name = sorted((root / "gold").iterdir())[0].name
    number = name.removeprefix("man_seg")
    (silver,) = (root / "silver").glob(f"*{number}")
    image, gold = root / "images" / f"t{number}", root / "gold" / name
    plain, _, _ = run(tmp_path, image, gold)
    facts, _, labels = run(tmp_path, image, gold, silver=str(silver))
    assert facts["objects"] == plain["objects"]
    assert facts["pixels"]["nucleus"] == plain["pixels"]["nucleus"]
    assert (labels == -1).sum() == facts["not_annotated_px"]
