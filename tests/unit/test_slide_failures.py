"""Failed slides: a row with the reason, retried by the next call, and the run says so."""

import csv

import pytest
from slideunet import slide_failures, store
from slideunet.errors import UserError


def manifest(results, slide, stage, **content):
    folder = results / "slides" / slide
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"kind": stage, "status": "done", "files": [], "facts": {}, **content}
    (folder / f"{stage}.json").write_bytes(store.to_json(whole))


@pytest.fixture
def results(tmp_path):
    for stage in ("slide", "segmentation", "objects", "overlay"):
        manifest(tmp_path, "good", stage)
    manifest(tmp_path, "good", "slide", facts={"height": 300, "mpp_um": [0.5, 0.25]})
    summary = {"objects": 7, "density_per_mm2": 3.5, "area_px_q50": 40.0, "area_um2_q95": 12.25,
               "fraction_nucleus": 0.25, "fraction_stroma": None}  # fmt: skip
    manifest(tmp_path, "good", "objects", facts={"objects": 7, "summary": summary})
    failure = {"stage": "segmentation", "reason": "=tile 3\tdoes not decode"}
    manifest(tmp_path, "bad", "slide")
    for stage in ("segmentation", "objects", "overlay"):
        manifest(tmp_path, "bad", stage, status="failed", failure=failure)
    manifest(tmp_path, "killed", "slide")
    return tmp_path


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


REFUSED = [{"slide": "line-9", "stage": "table", "reason": "no such file"}]


def test_tables_hold_each_slide_and_each_failure_once(results):
    counts = slide_failures.write_tables(str(results), ["bad", "good", "killed"], REFUSED)
    assert counts == (1, 3)
    archive = {row["slide"]: row for row in rows(results / "archive.tsv")}
    assert {name: row["status"] for name, row in archive.items()} == {
        "bad": "failed",
        "good": "done",
        "killed": "failed",
    }
    assert archive["good"]["height_px"] == "300"
    assert archive["good"]["mpp_x_um"] == "0.25"
    failures = {row["slide"]: row for row in rows(results / "failures.tsv")}
    assert failures["bad"]["stage"] == "segmentation"
    assert failures["bad"]["log"].endswith("logs/segment/bad.log")
    assert failures["bad"]["reason"] == "'=tile 3 does not decode", "no formula, one line"
    assert failures["killed"]["reason"] == "its job did not finish"
    assert failures["line-9"]["reason"] == "no such file"


def test_spatial_summary_is_in_the_archive_table(results):
    slide_failures.write_tables(str(results), ["bad", "good"], [])
    bad, good = rows(results / "archive.tsv")
    wanted = {
        "objects": "7",
        "density_per_mm2": "3.5",
        "area_px_q50": "40",
        "area_um2_q95": "12.25",
        "fraction_nucleus": "0.25",
        "fraction_stroma": "",
    }
    assert {name: good[name] for name in wanted} == wanted
    assert bad["slide"] == "bad" and bad["fraction_nucleus"] == ""


def test_the_run_fails_and_counts(results):
    slide_failures.write_tables(str(results), ["bad", "good"], [])
    (results / "summary.tsv").write_text(
        "model\taveraging\tforeground_iou\tobject_f1\nmain\tall\t0.88\t0.8\nmain\tnone\t0.86\t0.7\n"
    )
    paths = {
        "archive": str(results / "archive.tsv"),
        "failures": str(results / "failures.tsv"),
        "evaluation": str(results / "summary.tsv"),
        "verdict": str(results / "verdict.txt"),
        "flattered": [],
    }
    with pytest.raises(UserError, match="1 slides done, 1 failed"):
        slide_failures.judge(**paths)
    assert not (results / "verdict.txt").exists()
    manifest(results, "good", "accuracy", facts={"object_f1": 0.875})
    slide_failures.write_tables(str(results), ["good"], [])
    slide_failures.judge(**paths)
    verdict = (results / "verdict.txt").read_text()
    assert "1 done, 0 failed" in verdict
    assert "network main: foreground IoU 0.860, object F1 0.700 on held-out images" in verdict
    assert "network main (mean over views: all): foreground IoU 0.880" in verdict
    assert "slide good: object F1 0.875" in verdict
    slide_failures.judge(**paths | {"flattered": ["main"]})
    verdict = (results / "verdict.txt").read_text()
    assert "object F1 0.700 on images that it was TRAINED on" in verdict
    assert "held-out" not in verdict


def test_where_the_time_went_is_a_table_of_its_own(results):
    timing = {"wall_s": 10.0, "read_s": 1.5, "device_busy_percent": 97.5, "mpx_per_s": 1.25}
    file = results / "slides" / "good" / "segmentation.timing.json"
    file.write_bytes(store.to_json(timing))
    slide_failures.write_tables(str(results), ["bad", "good", "killed"], [])
    (row,) = rows(results / "timing.tsv")
    assert (row["slide"], row["device_busy_percent"], row["mpx_per_s"]) == ("good", "97.5", "1.25")


def test_failed_parts_are_set_aside_with_their_slide(results):
    slide_failures.write_tables(str(results), ["bad", "good"], [])
    for slide in ("bad", "good"):
        manifest(results, f"{slide}/parts", "1-of-2", status="failed", failure={})
        manifest(results, f"{slide}/parts", "2-of-2")
    slide_failures.set_aside(str(results))
    assert [p.name for p in (results / "slides/bad/parts").glob("[0-9]*")] == ["2-of-2.json"]
    assert len(list((results / "slides/good/parts").glob("[0-9]*"))) == 2


def test_failed_manifests_are_set_aside_and_others_left(results):
    assert slide_failures.set_aside(str(results)) == []
    slide_failures.write_tables(str(results), ["bad", "good", "killed"], REFUSED)
    assert len(slide_failures.set_aside(str(results))) == 3
    left = sorted(path.name for path in (results / "slides" / "bad").glob("[a-z]*.json"))
    assert left == ["slide.json"]
    assert len(list((results / "slides" / "good").glob("*.json"))) == 4
