"""A growing archive: what the next call does, in which order, and why it says it does it."""

import base64
import re
import subprocess
import sys

import pytest
from small_project import nuclei

ONE = "one raw/one.ome.tif raw/one_label.tif"
TWO = "two raw/two.ome.tif raw/two_label.tif"
PER_SLIDE = ("index", "segment", "objects", "overlay", "compare")
LAST = {"archive": 1, "morning": 1, "verdict": 1}


def run(project, script, *arguments):
    """A script of the workflow on the project; what it printed."""
    done = subprocess.run(
        [sys.executable, f"workflow/{script}", "--profile", "profiles/local", "--cores", "2",
         "--configfile", "small.yaml", *arguments],
        cwd=project.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_new_slide_is_the_only_one_processed(finished_project):
    finished_project.write_table("slides", "id image label", ONE, TWO)
    assert finished_project.planned() == {**dict.fromkeys(PER_SLIDE, 1), **LAST}


def test_removing_a_slide_touches_no_other(finished_project):
    finished_project.write_table("slides", "id image label", ONE, TWO)
    finished_project.snakemake()
    kept = {
        path: path.stat().st_mtime_ns
        for path in finished_project.folder.glob("results/slides/*/*.json")
    }
    finished_project.write_table("slides", "id image label", TWO)
    assert finished_project.planned() == LAST
    finished_project.snakemake()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "what was made stays"
    table = (finished_project.folder / "results" / "archive.tsv").read_text()
    assert [line.split("\t")[0] for line in table.splitlines()] == ["slide", "two"]


def test_a_folder_of_slides(finished_project):
    """The same file by a glob: nothing is made anew. What can't be used is a row of a table."""
    raw = finished_project.folder / "raw"
    (raw / "two.ome.tif").rename(raw / "two.later")
    finished_project.configure(slides="raw/*.ome.tif")
    assert finished_project.planned() == LAST, "the reference label is no longer named"
    (raw / "two.later").rename(raw / "two.ome.tif")
    assert finished_project.planned() == {**dict.fromkeys(PER_SLIDE[:-1], 1), **LAST}
    (raw / "two.ome.tif").rename(raw / "{two}.ome.tif")
    done = finished_project.snakemake(check=False)
    assert done.returncode != 0
    assert "1 slides done, 1 failed" in done.stdout
    failures = (finished_project.folder / "results" / "failures.tsv").read_text()
    assert re.search(r"^two-[0-9a-f]{8}\ttable\t.*\{two\}\.ome\.tif: \{ \} < >", failures, re.M)


def test_large_slides_come_first(finished_project, tmp_path):
    import tifffile

    for name, side in (("a", 128), ("b", 600), ("c", 300)):
        path = finished_project.folder / "raw" / f"{name}.ome.tif"
        tifffile.imwrite(path, nuclei(side, side, 5)[0], tile=(128, 128))
    finished_project.configure(slides="raw/[abc].ome.tif")
    done = finished_project.snakemake("--cores", "1", "--until", "segment")
    made = re.findall(r"output: results/slides/(\w)/(slide|segmentation).json", done.stdout)
    assert [f"{stage} of {slide}" for slide, stage in made] == [
        "slide of b",
        "segmentation of b",
        "slide of c",
        "segmentation of c",
        "slide of a",
        "segmentation of a",
    ]


def test_a_slide_that_moved_with_a_new_time_is_known_again(finished_project):
    """Read once to see that it is the same; then its path and time are those that are checked."""
    raw, source = finished_project.folder / "raw", "results/slides/one/source.json"
    (raw / "one.ome.tif").rename(raw / "other.ome.tif")
    (raw / "other.ome.tif").touch()
    finished_project.write_table("slides", "id image label", ONE.replace("/one.", "/other."))
    before = finished_project.read(source)
    dry = finished_project.snakemake("-n").stdout
    assert "1 of 1 slides have the content that was indexed" in dry
    assert "Nothing to be done" in dry
    assert finished_project.read(source) == before, "a dry run notes nothing"
    assert "Nothing to be done" in finished_project.snakemake().stdout
    assert finished_project.read(source)["path"] == "raw/other.ome.tif"
    assert finished_project.read(source)["mtime_ns"] != before["mtime_ns"]
    assert "another time" not in finished_project.snakemake("-n").stdout, "it is read once"

    # what follows takes it for unchanged, indexing it again too
    finished_project.configure(segment={"tile_px": 64}, index={"seconds": 299})
    assert {"index", "segment"} <= set(finished_project.planned())
    assert finished_project.snakemake().returncode == 0
    assert finished_project.planned() == {}
    (raw / "other.ome.tif").write_bytes((raw / "two.ome.tif").read_bytes())
    assert set(finished_project.planned()) == {*PER_SLIDE, *LAST}


def test_stages_in_turn_end_where_nothing_changed(finished_project):
    """The slide is touched: indexed again, found to be the same, and nothing follows."""
    (finished_project.folder / "raw" / "one.ome.tif").touch()
    printed = run(finished_project, "in_turn.py")
    assert "1 slides have another time" in printed
    assert "are taken for changed: no more than 0 GB are read here" in printed
    assert set(re.findall(r"^localrule (\w+):", printed, re.M)) == {"index"}
    assert finished_project.planned() == {}


def test_stages_in_turn_go_on_where_something_changed(finished_project):
    finished_project.configure(objects={"min_area_px": 200})
    printed = run(finished_project, "in_turn.py")
    rules = set(re.findall(r"^localrule (\w+):", printed, re.M)) - {"all"}
    assert rules == {"objects", "overlay", "compare", "archive", "morning", "verdict"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda project: None, "Nothing would run"),
        (
            lambda project: project.configure(segment={"tile_px": 64}),
            "segment one: config segment.tile_px is 64, was 128",
        ),
        (
            lambda project: (project.folder / "workflow/scripts/slideunet/hull.py").open("a").write(
                "\nEDITED = 1\n"
            ),
            "objects one: its code changed: workflow/scripts/slideunet/hull.py",
        ),
        (
            lambda project: project.write_table("slides", "id image label", ONE, TWO),
            "segment two: it was never made",
        ),
        (
            lambda project: (project.folder / "raw" / "one.ome.tif").write_bytes(
                (project.folder / "raw" / "two.ome.tif").read_bytes()
            ),
            "index one: the slide's file has changed",
        ),
        (
            lambda project: (project.folder / "raw" / "a_label.tif").write_bytes(
                (project.folder / "raw" / "b_label.tif").read_bytes()
            ),
            "ingest a: raw/a_label.tif has other content",
        ),
    ],
)  # fmt: skip
def test_explain_says_why(finished_project, change, line):
    change(finished_project)
    printed = run(finished_project, "explain.py")
    assert line in printed
    assert "overlay one: it follows" in printed or "one" not in line


def test_an_archive_in_parts_ends_in_one_table(finished_project):
    """Each part is a run over the same results; the table of all needs no plan of all."""
    table = finished_project.folder / "results" / "archive.tsv"
    whole = table.read_bytes()
    table.unlink()
    part = ("--until", "overlay", "compare", "train")
    finished_project.configure(slides="raw/two*.ome.tif")
    finished_project.snakemake(*part)
    assert not table.exists()
    command = [sys.executable, "workflow/collect.py", "results"]
    done = subprocess.run(
        command, cwd=finished_project.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = table.read_bytes().splitlines()
    assert lines[:2] == whole.splitlines()
    assert lines[2].startswith(b"two\tdone")
    assert len(lines) == 3


def test_the_files_of_a_slide_are_bounded(finished_project):
    """What docs/scale.md counts with. Those of the Zarr stores grow with the slide (test_ngff)."""
    results = finished_project.folder / "results"
    slide = results / "slides" / "one"
    beside = [
        path
        for path in slide.rglob("*")
        if path.is_file() and not any(name.endswith(".zarr") for name in path.parts)
    ]
    assert len(beside) <= 19, sorted(beside)
    told = [*results.glob("logs/*/one.log"), *results.glob("benchmarks/*/one.tsv")]
    assert len(told) == 2 * len(PER_SLIDE)
    noted = [
        base64.b64decode(path.name.replace("@", "")).decode()
        for path in (finished_project.folder / ".snakemake" / "metadata").rglob("*")
        if path.is_file()
    ]
    assert len([name for name in noted if name.startswith("results/slides/one/")]) == 6, noted
