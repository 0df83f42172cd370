"""Stages train and evaluate on stored images, and the measures that evaluation takes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from slideunet import model, store
from slideunet.arrays import create_group, write_array
from slideunet.curves import write_table
from slideunet.errors import UserError
from slideunet.evaluation import components, count, pool
from slideunet.job import Stopped
from slideunet.overlap_tile import prepare
from slideunet.stages import train as train_stage
from slideunet.stages.evaluate import evaluate
from slideunet.stages.train import train
from slideunet.whole_image import predict_image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SETTINGS = {
    "classes": ["background", "cell"],
    "network": {"depth": 1, "base_channels": 4, "dropout": 0.5},
    "intensity": {"scope": "image", "low_percentile": 1, "high_percentile": 99.8},
    "weights": {"preset": "paper", "w0": 10, "sigma_px": 5},
    "augment": {
        "elastic_grid": 3, "elastic_sigma_px": 1, "rotation_deg": 180, "flips": True,
        "brightness": 0.1, "contrast": 0.1, "gamma": 0.1, "noise": 0.02,
    },
    "train": {
        "steps": 60, "batch": 1, "input_px": 44, "optimiser": "adamw", "learning_rate": 0.01,
        "momentum": 0.99, "weight_decay": 0, "schedule": "cosine", "warmup_steps": 0,
        "flat": 0, "border_factor": 1, "processes": 1,
        "gradient_clip_norm": 1, "average_decay": 0.9, "precision": "float32", "seed": 1,
        "threads": 1, "checkpoint_every_steps": 20, "validate_every_steps": 30, "keep": "last",
    },
}  # fmt: skip

EVALUATE = {
    "evaluate": {"min_area_px": 10, "averaging": ["none", "all"], "measures": ["precision", "seg"]}
}


def stored(folder, name, seed, channels=1, mpp_um=0.5, border=0):
    """One image as stages ingest and weights leave it; returns the two manifests."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:60, :72]
    label = np.full(y.shape, 0, np.int32)
    for number, (cy, cx) in enumerate(random.uniform(5, 55, (6, 2)), start=1):
        label[(y - cy) ** 2 + (x - cx) ** 2 < 36] = number
    label[:4] = -1
    classes = np.where(label < 0, 255, label > 0).astype(np.uint8)
    image = (40 * (label > 0) + random.normal(60, 4, label.shape)).astype(np.uint8)

    def ingest(work):
        group = create_group(work.folder / f"{name}.zarr")
        write_array(group, "image", np.stack([image] * channels), "CYX")
        write_array(group, "label", label, "YX")
        write_array(group, "class", classes, "YX")
        facts = {"shape": [channels, *image.shape], "dtype": "uint8", "mpp_um": mpp_um}
        return [f"{name}.zarr"], facts

    def weights(work):
        group = create_group(work.folder / f"{name}.zarr")
        write_array(group, "target", classes, "YX")
        write_array(group, "border", np.full(label.shape, border, np.float32), "YX")
        counts = np.bincount(classes.ravel(), minlength=256)[:2]
        return [f"{name}.zarr"], {"counts": counts.tolist()}

    paths = []
    for kind, build in (("images", ingest), ("weights", weights)):
        (folder / kind).mkdir(exist_ok=True)
        paths.append(str(folder / kind / f"{name}.json"))
        store.make(paths[-1], build, kind=kind, settings={"n": name}, code={}, inputs={})
    return paths


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    torch.set_num_threads(1)
    one, two, test = (stored(folder, name, seed) for seed, name in enumerate(["a", "b", "t"]))
    return {
        "images": [one[0], two[0]], "weights": [one[1], two[1]],
        "validation_images": [test[0]], "validation_weights": [test[1]],
    }  # fmt: skip


def run_train(folder, data, settings=SETTINGS, code=None):
    folder.mkdir(exist_ok=True)
    manifest = folder / "train.json"
    train(**data, manifest=str(manifest), settings=settings, code=code or {}, gpus=0)
    return manifest


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return run_train(tmp_path_factory.mktemp("models") / "main", data, code={"train.py": "abc"})


def test_training_publishes_weights_card_table_curves_and_events(trained, data):
    names = {path.name for path in trained.parent.iterdir()}
    assert names == {
        "train.json", "model.safetensors", "best.safetensors", "model.json", "history.tsv",
        "curves.png", "events",
    }  # fmt: skip
    facts = store.load(trained)["facts"]
    assert facts["mpp_um"] == 0.5
    assert facts["channels"] == 1
    card = json.loads((trained.parent / "model.json").read_bytes())
    assert card["code"] == {"train.py": "abc"}
    assert card["data"]["images"] == [store.sha256_of_file(Path(p)) for p in data["images"]]
    assert card["training"]["settings"] == SETTINGS
    by_manifest, by_card = (model.load(trained.parent / n) for n in ("train.json", "model.json"))
    assert by_manifest[1] == by_card[1]
    x = torch.rand(1, 1, 44, 44)
    assert torch.equal(by_manifest[0](x), by_card[0](x))
    table = (trained.parent / "history.tsv").read_text().splitlines()
    assert table[0].split("\t")[:2] == ["step", "loss"]
    assert table[-1].startswith("60\t")
    (events,) = (trained.parent / "events").iterdir()
    told = EventAccumulator(str(events)).Reload()
    rows = [line.split("\t") for line in table[1:]]
    assert [(e.step, round(e.value, 4)) for e in told.Scalars("loss")] == [
        (int(row[0]), round(float(row[1]), 4)) for row in rows
    ]
    assert len(told.Scalars("validation_iou")) == sum(bool(row[3]) for row in rows) > 0


def test_other_code_with_equal_weights_gives_an_equal_manifest(trained, data, tmp_path):
    again = run_train(tmp_path / "main", data, code={"train.py": "def"})
    assert again.read_bytes() == trained.read_bytes()
    cards = [(path.parent / "model.json").read_bytes() for path in (again, trained)]
    assert cards[0] != cards[1]


def test_a_stopped_training_goes_on_to_an_equal_manifest(trained, data, tmp_path, monkeypatch):
    calls = iter(range(1000))
    with monkeypatch.context() as patch:
        patch.setattr(train_stage, "stop_requested", lambda: next(calls) == 24)
        with pytest.raises(Stopped, match="saved"):
            run_train(tmp_path / "main", data)
    assert not (tmp_path / "main" / "train.json").exists()
    assert run_train(tmp_path / "main", data).read_bytes() == trained.read_bytes()
    assert [p.name for p in (tmp_path / "main").iterdir() if p.name.startswith(".")] == []


def test_images_of_different_kinds_are_refused_and_sizes_left_unknown(data, tmp_path):
    colour, weights = stored(tmp_path, "colour", 7, channels=3)
    mixed = {**data, "images": [data["images"][0], colour],
             "weights": [data["weights"][0], weights]}  # fmt: skip
    with pytest.raises(UserError, match="channels"):
        run_train(tmp_path / "main", mixed)
    other = stored(tmp_path, "other", 8, mpp_um=0.25)[0]
    assert train_stage.describe([data["images"][0], other], SETTINGS).mpp_um is None


def test_evaluation_measures_the_held_out_images(trained, data, tmp_path):
    manifest = tmp_path / "main.json"
    evaluate(
        model=str(trained), images=data["validation_images"], manifest=str(manifest),
        settings=EVALUATE, code={}, gpus=0,
    )  # fmt: skip
    ways = store.load(manifest)["facts"]["averaging"]
    assert set(ways) == {"none", "all"} and ways["none"] != ways["all"]
    for facts in ways.values():
        pooled = facts["pooled"]
        assert {key: pooled[key] for key in facts["images"]["t"]} == facts["images"]["t"]
        assert pooled["foreground_iou"] > 0.6  # after 60 steps of a tiny network
        assert pooled["object_f1"] > 0
        assert pooled["objects"] > 0
        assert 0 < pooled["seg"] < 1 and pooled["ap_50"] > 0 and pooled["ap_95"] < 1
    again = tmp_path / "again" / "main.json"
    again.parent.mkdir()
    evaluate(
        model=str(trained), images=data["validation_images"], manifest=str(again),
        settings=EVALUATE, code={}, gpus=0,
    )  # fmt: skip
    assert again.read_bytes() == manifest.read_bytes()  # the picture's checksum too


def test_evaluation_refuses_other_channels(trained, tmp_path):
    colour = stored(tmp_path, "colour", 7, channels=3)[0]
    with pytest.raises(UserError, match="1 channels, the image has 3"):
        evaluate(model=str(trained), images=[colour], manifest=str(tmp_path / "main.json"),
                 settings=EVALUATE, code={}, gpus=0)  # fmt: skip


def test_counts_leave_out_what_nobody_annotated_and_small_objects():
    truth, label = np.zeros((12, 12), np.uint8), np.zeros((12, 12), np.int32)
    label[1:5, 1:5], label[8, 8] = 1, 2
    truth[label > 0] = 1
    label[:, 10:], truth[:, 10:] = -1, 255
    found = np.zeros((12, 12), np.uint8)
    found[1:5, 1:4] = 1  # IoU 12 / 16 with the first object
    found[:, 10:] = 1  # where nobody annotated
    counted = count(truth, found, label, components(found), 2, min_area_px=2)
    measures = counted.measures(["background", "cell"])
    assert measures["iou"]["cell"] == pytest.approx(12 / 17)
    assert measures["dice"]["cell"] == pytest.approx(24 / 29)
    assert measures["pixel_error"] == pytest.approx(5 / 120)
    assert measures["object_f1"] == 1
    assert measures["objects"] == 1
    strict = count(truth, found, label, components(found), 2, min_area_px=0)
    assert strict.objects.false_negatives == 1
    both = pool([counted, strict])
    assert both.pixels.sum() == 240
    assert both.objects.true_positives == 2


def test_components_are_4_connected_within_one_class():
    classes = np.array([[1, 0, 2, 2], [0, 1, 2, 1], [0, 0, 0, 1]], np.uint8)
    labelled = components(classes)
    assert labelled.max() == 4
    assert len(np.unique(labelled[classes == 1])) == 3


def test_nothing_to_measure_is_said():
    with pytest.raises(UserError, match="no image"):
        pool([])
    nothing = np.full((3, 3), 255, np.uint8)
    with pytest.raises(UserError, match="annotated"):
        count(nothing, np.zeros_like(nothing), np.zeros((3, 3), np.int32), nothing, 2, 0)


def test_an_answer_that_is_not_finite_is_an_error():
    description = model.Description(SETTINGS["network"], 1, ["a", "b"], {}, None)
    network = prepare(model.build(description), torch.device("cpu"), torch.float32)
    network.score.bias.data[0] = float("inf")
    with pytest.raises(UserError, match="not finite"):
        predict_image(network, np.zeros((1, 20, 20), np.float32))


def test_the_table_leaves_out_what_was_not_measured(tmp_path):
    write_table(tmp_path / "t.tsv", [{"step": 1, "loss": 0.5, "learning_rate": 1e-3}])
    assert (tmp_path / "t.tsv").read_text().splitlines()[1] == "1\t0.5\t0.001\t\t"


def test_the_border_term_can_be_scaled_and_left_out(tmp_path):
    manifests = stored(tmp_path, "a", 0, border=3)
    scaling = train_stage.describe(manifests[:1], SETTINGS).normalisation
    for factor in (0, 0.5, 1):
        read = train_stage.read_images(
            manifests[:1], manifests[1:], scaling, {"border_factor": factor}
        )
        assert np.all(read[0].border == 3 * factor)
        assert read[0].border.dtype == np.float32
