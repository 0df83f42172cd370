"""The measures by name over a set of images, and the tables of models and of groups of models."""

import csv

import numpy as np
import pytest
from slideunet import challenge, store
from slideunet.challenge import Evaluated, measure
from slideunet.errors import UserError
from slideunet.metrics import celltracking, isbi
from slideunet.stages.summary import summary


def evaluated(name, ignored=False, share=0.5):
    """Two cells of 6 x 6, one of them found as it is, the other by that share."""
    label = np.zeros((12, 20), np.int32)
    label[2:8, 2:8], label[2:8, 10:16] = 1, 2
    found = label.copy()
    found[2 + int(6 * share) :, 10:] = 0
    if ignored:
        label[:, 10:] = -1
    truth = np.where(label < 0, 255, label > 0).astype(np.uint8)
    return Evaluated(name, label, truth, np.where(found > 0, 0.8, 0.1).astype(np.float32), found)


def test_measures_are_those_of_the_metrics_over_all_images():
    images = [evaluated("a"), evaluated("b", share=1)]
    figures = measure(["seg", "precision", "partitions", "isbi"], images)
    assert figures["seg"] == celltracking.seg((i.cells, i.labelled) for i in images)[0] == 0.75
    assert figures["ap_50"] == pytest.approx(3 / 5)  # IoU of 0.5 is no match, on either side
    assert figures["panoptic_quality"] == pytest.approx(3 / 4)
    assert 0 < figures["adapted_rand_error"] < 1
    assert figures["voi_split_bits"] > 0
    scores = [isbi.section_scores(i.truth > 0, i.foreground) for i in images]
    expected = isbi.summary(scores)
    assert figures["isbi_v_rand"] == expected["v_rand"]["value"]
    assert figures["isbi_v_rand_threshold"] == expected["v_rand"]["threshold"]
    assert figures.keys() >= {f"isbi_{name}" for name in expected}


def test_what_nobody_annotated_does_not_count():
    figures = measure(["seg", "precision", "partitions"], [evaluated("a", ignored=True)])
    assert figures["seg"] == figures["ap_95"] == figures["panoptic_quality"] == 1
    assert figures["adapted_rand_error"] == figures["voi_split_bits"] == 0
    with pytest.raises(UserError, match=r"^part: .*isbi"):
        measure(["isbi"], [evaluated("part", ignored=True)])


def test_every_measure_can_be_configured(project):
    import yaml

    schema = yaml.safe_load((project / "workflow/schemas/config.schema.yaml").read_text())
    known = schema["properties"]["evaluate"]["properties"]["measures"]["items"]["enum"]
    assert set(known) == set(challenge.MEASURES)


def evaluation(folder, name, **iou):
    def build(work):
        ways = {way: {"pooled": {"iou": {"cell": value}}} for way, value in iou.items()}
        return [], {"averaging": ways}

    path = folder / f"{name}.json"
    store.make(path, build, kind="evaluate", settings={}, code={}, inputs={})
    return str(path)


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_models_of_one_group_become_mean_and_spread(tmp_path):
    manifests = [
        evaluation(tmp_path, "f0", none=0.5, all=0.75),
        evaluation(tmp_path, "f1", none=1.0, all=0.25),
        evaluation(tmp_path, "alone", none=0.125),
    ]
    table, groups = tmp_path / "summary.tsv", tmp_path / "groups.tsv"
    of = {"f0": "folds", "f1": "folds", "alone": "alone"}
    summary(evaluations=manifests, table=str(table), groups_table=str(groups), groups=of)
    assert rows(table)[0] == {
        "model": "f0", "group": "folds", "averaging": "all", "iou_cell": "0.75"
    }  # fmt: skip
    found = {(row["group"], row["averaging"]): row for row in rows(groups)}
    assert found["folds", "none"] == {
        "group": "folds", "averaging": "none", "models": "2",
        "iou_cell": "0.75", "iou_cell_sd": "0.353553",
    }  # fmt: skip
    assert found["alone", "none"]["iou_cell_sd"] == ""
    assert len(found) == 3
