"""Failed slides: a row with the reason, retried by the next call, and the run says so."""

import csv
import os

import pytest
from slideunet import slide_failures, store
from slideunet.errors import UserError
from slideunet.manifest import sealed


def manifest(results, slide, stage, **content):
    folder = results / "slides" / slide
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"kind": stage, "status": "done", "files": [], "facts": {}, **content}
    (folder / f"{stage}.json").write_bytes(sealed(whole))


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


def set_aside(results, *slides):
    """As the Snakefile does it; how many."""
    found = slide_failures.failed_manifests(str(results), slides)
    slide_failures.set_aside(found)
    return len(found)


def test_failed_parts_are_set_aside_with_their_slide(results):
    for slide, status in (("bad", "failed"), ("good", "done")):
        manifest(results, f"{slide}/parts", "1-of-2", status=status, failure={})
        manifest(results, f"{slide}/parts", "2-of-2")
    slide_failures.write_tables(str(results), ["bad", "good"], [])
    assert set_aside(results, "bad", "good") == 4
    assert [p.name for p in (results / "slides/bad/parts").glob("[0-9]*")] == ["2-of-2.json"]
    assert len(list((results / "slides/good/parts").glob("[0-9]*"))) == 2


def test_failed_manifests_are_set_aside_and_others_left(results):
    slide_failures.write_tables(str(results), ["bad", "good", "killed"], REFUSED)
    assert set_aside(results, "bad", "good", "killed") == 3
    left = sorted(path.name for path in (results / "slides" / "bad").glob("[a-z]*.json"))
    assert left == ["slide.json"]
    assert len(list((results / "slides" / "good").glob("*.json"))) == 4


def test_a_call_that_was_killed_wrote_no_table_and_its_failures_are_found(results):
    assert len(slide_failures.failed_manifests(str(results), ["bad", "good"])) == 3
    assert slide_failures.failed_manifests(str(results), ["good"]) == []
    slide_failures.write_tables(str(results), ["good"], [])  # of the call before
    assert len(slide_failures.failed_manifests(str(results), ["bad", "good"])) == 3
    for path in (results / "slides").rglob("*.json"):
        os.utime(path, (1e9, 1e9))
    assert slide_failures.failed_manifests(str(results), ["bad", "good"]) == []


@pytest.mark.parametrize("damage", [(b'"objects": 7', b'"objects": 8'), (b'"status"', b'"statur"')])
def test_a_damaged_manifest_is_no_result_and_is_made_again(results, damage):
    path = results / "slides" / "good" / "objects.json"
    path.write_bytes(path.read_bytes().replace(*damage, 1))
    assert slide_failures.write_tables(str(results), ["good"], []) == (0, 1)
    (failure,) = rows(results / "failures.tsv")
    assert failure["stage"] == "objects"
    assert failure["reason"].startswith(str(path)) and "\n" not in failure["reason"]
    assert rows(results / "archive.tsv")[0]["objects"] == ""
    assert set_aside(results, "good") == 1
    assert not path.exists()


def test_the_slides_to_be_tried_again_are_one_line(results, capsys):
    slide_failures.announce(slide_failures.failed_manifests(str(results), ["bad", "good"]))
    assert capsys.readouterr().err == (
        "unet-slides: failed, and tried again by a call that runs jobs: bad\n"
    )
