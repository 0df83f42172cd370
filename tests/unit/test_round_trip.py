"""A result corrected in QuPath and trained on: segment, outline, correct, ingest, compare."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import zarr
from memory_slide import network
from slideunet import model, store
from slideunet.stages.index import index
from slideunet.stages.ingest import ingest
from slideunet.stages.objects import objects
from slideunet.stages.segment import segment
from test_objects_stage import OPTIONS

CLASSES = ["background", "nucleus"]
INTENSITY = {"scope": "image", "low_percentile": 1, "high_percentile": 99.8}
MPP_UM = 1.0
REGION = (600, 800, 900, 1100)  # y, x, height, width in px of level 0


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> Path:
    """CMU-1-Small-Region.svs (0.499 um/px) segmented by a random network of 1 um/px."""
    if "UNET_SLIDES_DATA" not in os.environ:
        pytest.skip("UNET_SLIDES_DATA is not set: no CMU-1-Small-Region.svs")
    folder = tmp_path_factory.mktemp("result")
    description = model.Description(
        architecture={"depth": 2, "base_channels": 4, "dropout": 0.5}, channels=3,
        classes=CLASSES, normalisation=INTENSITY, mpp_um=MPP_UM,
    )  # fmt: skip

    def build(work):
        model.save_weights(work.folder / model.WEIGHTS, network(2, 3, 2, 0).state_dict())
        return [model.WEIGHTS], description.as_json()

    store.make(folder / "train.json", build, kind="train", settings={}, code={}, inputs={})
    settings = {
        "index": {"tissue": "auto", "thumbnail_px": 512, "mem_mb": 2000, "seconds": 100},
        "intensity": INTENSITY, "mpp_um": None,
        "segment": {"models": ["main"], "tile_px": 256, "shard_px": 1024, "chunk_px": 256,
                    "precision": "float32", "averaging": "none", "on_bad_tile": "fail",
                    "ngff": "0.5", "threads": 1, "mem_mb": 4000},
        "objects": {**OPTIONS, "min_area_px": 12}, "classes": CLASSES,
    }  # fmt: skip
    file, names = slide_file(), {n: str(folder / f"{n}.json") for n in ("slide", "segmentation")}
    index(slide=file, tissue=[], manifest=names["slide"], settings=settings, code={})
    segment(slide=names["slide"], models=[str(folder / "train.json")], code={},
            manifest=names["segmentation"], settings=settings)  # fmt: skip
    objects(**names, manifest=str(folder / "objects.json"), settings=settings, code={})
    assert store.load(folder / "objects.json")["facts"]["objects"] > 200
    return folder


def slide_file() -> str:
    return str(Path(os.environ["UNET_SLIDES_DATA"], "slides", "CMU-1-Small-Region.svs"))


def square(y, x, height, width, name) -> dict:
    ring = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "classification": {"name": name}},
    }


def train_on(folder: Path, features: list[dict], **row) -> tuple[dict, np.ndarray, np.ndarray]:
    """Ingest a corrected copy as a row of the training table: facts, image and label."""
    corrected = folder / "corrected.geojson"
    corrected.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    manifest = folder / "a.json"
    ingest(image=slide_file(), label=str(corrected), manifest=str(manifest), code={},
           settings={"classes": CLASSES, "to_mpp_um": str(MPP_UM), **row})  # fmt: skip
    group = zarr.open_group(str(folder / "a.zarr"), mode="r")
    return store.load(manifest)["facts"], group["image"][...], group["label"][...]


def outlines_and_labels(result: Path) -> tuple[list[dict], np.ndarray]:
    features = json.loads(gzip.decompress((result / "objects.geojson.gz").read_bytes()))["features"]
    labels = zarr.open_group(str(result / "objects.ome.zarr"), mode="r")["0"][...].astype(int)
    return features, labels


def test_untouched_outlines_give_the_label_image(result, tmp_path):
    features, labels = outlines_and_labels(result)
    facts, image, found = train_on(tmp_path, features)
    assert facts["shape"] == [3, *labels.shape] and facts["mpp_um"] == MPP_UM
    order = np.array([0, *(feature["id"] for feature in features)])
    np.testing.assert_array_equal(order[found], labels)
    assert image.std() > 10


def test_a_corrected_copy_is_trained_on_where_somebody_looked(result, tmp_path):
    features, labels = outlines_and_labels(result)
    y, x, height, width = REGION
    scale = MPP_UM / 0.499
    rows, columns = ((np.arange(n) + 0.5) * scale for n in labels.shape)
    looked = ((rows >= y) & (rows < y + height))[:, None] & ((columns >= x) & (columns < x + width))
    inside = np.unique(labels[looked])[1:]
    assert len(inside) > 20
    removed = inside[len(inside) // 2]  # a false positive
    corrected = [feature for feature in features if feature["id"] != removed]
    added = (y + 40, x + 60, 30, 50)  # a nucleus that was missed, drawn by hand
    corrected += [square(*added, "nucleus"), square(*REGION, "Region*")]
    facts, image, found = train_on(tmp_path, corrected)
    wanted = labels > 0
    wanted[labels == removed] = False
    drawn = ((rows >= added[0]) & (rows < added[0] + added[2]))[:, None]
    drawn = drawn & (columns >= added[1]) & (columns < added[1] + added[3])
    wanted |= drawn
    ((top, left, *size),) = facts["windows"]
    window = np.s_[top : top + size[0], left : left + size[1]]
    assert found.shape == tuple(size) == image.shape[1:]
    np.testing.assert_array_equal(found == -1, ~looked[window])
    np.testing.assert_array_equal(found > 0, (wanted & looked)[window])
    assert not looked[: top + 1].any() and top > 0, "the region lies within the window"
    # Objects keep apart from each other: one number each, where the drawn one does not cover them.
    for number in inside[:50]:
        own = (labels == number) & looked & ~drawn
        assert len(np.unique(found[own[window]])) <= 1
