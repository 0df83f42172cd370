"""The whole chain on small images: what it makes, that it makes it once, and after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import zarr


def test_everything_is_made(finished_project):
    results = finished_project.folder / "results"
    for path in (
        "images/a.json",
        "weights/a.json",
        "models/main/train.json",
        "models/main/model.safetensors",
        "models/main/model.json",
        "models/main/history.tsv",
        "evaluation/main.json",
        "evaluation/summary.tsv",
        "slides/one/slide.json",
        "slides/one/thumbnail.png",
        "slides/one/tissue.geojson",
        "slides/one/segmentation.json",
        "slides/one/objects.json",
        "slides/one/objects.parquet",
        "slides/one/objects.geojson.gz",
        "slides/one/annotate_next.geojson",
        "slides/one/pictures/overlay.png",
        "slides/one/pictures/field_1.jpg",
        "slides/one/pictures/density.png",
        "slides/one/accuracy.json",
        "archive.tsv",
        "failures.tsv",
        "timing.tsv",
        "verdict.txt",
    ):
        assert (results / path).is_file(), path
    probabilities = zarr.open_group(results / "slides/one/segmentation.ome.zarr", mode="r")["0"]
    assert probabilities.shape == (2, 300, 421)
    accuracy = finished_project.read("results/slides/one/accuracy.json")["facts"]
    assert accuracy["object_f1"] > 0.9, "bright discs on a dark ground are found"
    left = [path for path in results.rglob(".*.work-*")]
    assert left == [], "work folders are swept when their artefact is published"


def test_nothing_to_be_done_after_it(finished_project):
    assert "Nothing to be done" in finished_project.snakemake("-n").stdout
    assert "Nothing to be done" in finished_project.snakemake().stdout


def test_same_bytes_in_another_folder_with_another_job_count(finished_project, small_project):
    small_project.snakemake("--cores", "1")
    assert small_project.results() == finished_project.results()


def test_killed_then_called_again_gives_the_same_bytes(finished_project, small_project):
    """Snakemake and its jobs die in the middle of the training; the same command goes on."""
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local", "--cores", "2"]
    process = subprocess.Popen(
        [*command, "--configfile", "small.yaml"],
        cwd=small_project.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    models = small_project.folder / "results" / "models" / "main"
    until = time.monotonic() + 240
    while not list(models.glob(".train.work-*/*")) and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(models.glob(".train.work-*")), "the kill must land in the training"
    assert not (models / "train.json").exists()
    small_project.snakemake()
    assert small_project.results() == finished_project.results()


def test_a_slide_in_parts_gives_the_same_bytes(finished_project):
    """Two jobs and one that joins them, of a finished project: nothing else changes."""
    before = finished_project.results()
    finished_project.configure(segment={"parts": 2})
    assert finished_project.planned()["segment_part"] == 2
    finished_project.snakemake()
    assert finished_project.results() == before
    parts = finished_project.folder / "results" / "slides" / "one" / "parts"
    assert {path.name for path in parts.glob("*-of-2.json")} == {"1-of-2.json", "2-of-2.json"}
    assert "Nothing to be done" in finished_project.snakemake("-n").stdout
    shutil.rmtree(parts)
    assert "Nothing to be done" in finished_project.snakemake("-n").stdout


def test_columns_of_the_slide_table_reach_the_slide(finished_project):
    """The user's own tissue outlines, a pixel size instead of the file's, its number of parts."""
    ring = [[[0, 0], [200, 0], [200, 100], [0, 100], [0, 0]]]
    feature = {"type": "Feature", "properties": {}}
    feature["geometry"] = {"type": "Polygon", "coordinates": ring}
    outlines = finished_project.folder / "raw" / "tissue.geojson"
    outlines.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    finished_project.write_table(
        "slides", "id image mpp_um tissue parts", "one raw/one.ome.tif 0.25 raw/tissue.geojson 2"
    )
    target = "results/slides/one/segmentation.json"
    assert finished_project.planned(target) == {"index": 1, "segment": 1, "segment_part": 2}
    finished_project.snakemake(target)
    slide = finished_project.read("results/slides/one/slide.json")["facts"]
    assert (slide["mpp_um"], slide["mpp_source"]) == ([0.25, 0.25], "table")
    assert slide["tissue"]["source"] == "outlines"
    facts = finished_project.read(target)["facts"]
    assert facts["computed_px"] == 128 * 256, "the squares of 128 px that the outlines touch"
    outlines.write_text("no outlines")
    failed = finished_project.snakemake(target, check=False)
    assert "tissue.geojson" in failed.stdout and "Traceback" not in failed.stdout


def test_a_broken_slide_is_a_row_and_the_others_go_on(finished_project):
    (finished_project.folder / "raw" / "broken.svs").write_bytes(b"II*\0" + b"\x07" * 500)
    rows = [
        "id image label",
        "one raw/one.ome.tif raw/one_label.tif",
        "two raw/two.ome.tif raw/two_label.tif",
        "broken raw/broken.svs ",
        "gone raw/none.svs ",
    ]
    evil = "evil raw/</script><script>alert(1)</script> "
    finished_project.write_table("slides", *rows, evil)
    before = (finished_project.folder / "results/slides/one/segmentation.json").stat().st_mtime_ns
    done = finished_project.snakemake(check=False)
    assert done.returncode != 0
    assert "2 slides done, 3 failed" in done.stdout
    failures = (finished_project.folder / "results" / "failures.tsv").read_text()
    assert "broken.svs" in failures
    results = finished_project.folder / "results"
    for stage in ("slide", "segmentation", "objects", "overlay"):
        passed_on = json.loads((results / f"slides/broken/{stage}.json").read_bytes())
        assert passed_on["failure"]["stage"] == "index", "what follows passes the failure on"
    assert "none.svs" in failures
    after = finished_project.folder / "results" / "slides" / "one" / "segmentation.json"
    assert after.stat().st_mtime_ns == before, "the slide that was done is not done again"
    assert json.loads((after.parents[1] / "two" / "objects.json").read_bytes())["status"] == "done"
    # What only looks leaves the failed ones to a call that runs, and says so.
    for look in (["-n"], ["--report", "report.html"]):
        looked = finished_project.snakemake(*look).stdout
        assert "failed, and tried again by a call that runs jobs: broken" in looked
        assert (results / "slides/broken/slide.json").exists()
    page = (finished_project.folder / "report.html").read_text()
    assert "alert(1)" in page and "<script>alert" not in page
    # Mended, the same command does what is missing and nothing else.
    source = finished_project.folder / "raw" / "two.ome.tif"
    finished_project.write_table("slides", *rows)
    (finished_project.folder / "raw" / "broken.svs").write_bytes(source.read_bytes())
    (finished_project.folder / "raw" / "none.svs").write_bytes(source.read_bytes())
    planned = finished_project.planned()
    assert "train" not in planned
    assert planned["segment"] == 2
    finished_project.snakemake()
