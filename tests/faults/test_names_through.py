"""Hostile names through the whole chain: results, report, tables, outlines, pictures, crate."""

import csv
import gzip
import html
import json
import re
from pathlib import Path

import pytest
import tifffile
from browser import Browser, program
from hostile_names import CANARY, names
from PIL import Image
from small_project import make_project, nuclei
from test_cells import formulas
from test_morning import Page
from test_names import SEED, place, through, tree

# What a class and a channel may be called: both stand in tables, outlines and reports.
CLASSES = ["background", "=cmd|' /C calc'!A0 <script>document.title='CANARY'</script>"]
CHANNEL = "<img src=x onerror=document.title='CANARY'> $(touch CANARY)"
# All that a path below the results may be made of.
HARMLESS = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


def write_slide(path: Path) -> None:
    """A slide whose channel has a hostile name."""
    image, _ = nuclei(96, 128, 3)
    tifffile.imwrite(
        path, image, ome=True, tile=(64, 64),
        metadata={"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5,
                  "Channel": {"Name": [CHANNEL]}},
    )  # fmt: skip


def rows_of(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def is_whole(folder: Path) -> bool:
    """Whether a slide that is done has all its files, each one readable as what it is."""
    with gzip.open(folder / "objects.geojson.gz", "rt") as file:
        features = json.load(file)["features"]
    assert {f["properties"]["classification"]["name"] for f in features} <= {CLASSES[1]}
    assert formulas(folder / "objects.csv", ",") == []
    with Image.open(folder / "pictures" / "overlay.png") as picture:
        picture.load()
    return json.loads((folder / "slide.json").read_bytes())["facts"]["channels"] == [CHANNEL]


def check_page(page: Path) -> None:
    """Nothing on the page is alive but its own script."""
    parsed = Page(page.read_text(encoding="utf-8"))
    assert parsed.open == []
    assert len(parsed.all("script")) == len(parsed.all("style")) == 1
    assert not {"iframe", "object", "svg", "math", "base"} & {tag for tag, _ in parsed.tags}
    assert not [key for _, found in parsed.tags for key in found if key.startswith("on")]
    assert CLASSES[1] in parsed.text
    if program():
        with Browser() as browser:
            browser.open(page)
            assert CANARY not in browser.value("document.title")
            assert browser.value("document.scripts.length") == 1
            assert len(browser.requested()) == 1
            assert browser.complaints() == []


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.faults)])
def test_hostile_names_through_the_whole_chain(project, tmp_path, figure, count):
    made = make_project(project, tmp_path / "project")
    write_slide(tmp_path / "slide.tif")
    wanted = names(300, SEED)
    wanted = [wanted[number * len(wanted) // count] for number in range(count)]
    placed = place(made.folder / "named", tmp_path / "slide.tif", wanted)
    made.configure(slides="named", classes=CLASSES, objects={"also": ["csv"]})
    before = tree(made.folder)
    done = through(made)
    crate = through(made, "results/crate.json")
    after = tree(made.folder)
    results = made.folder / "results"
    assert after == before, "outside the output folder"
    written = [path.relative_to(results) for path in results.rglob("*")]
    assert CANARY not in {path.name for path in written}
    assert [path for path in written if not HARMLESS.fullmatch(path.as_posix())] == []
    archive, failures = rows_of(results / "archive.tsv"), rows_of(results / "failures.tsv")
    whole = sum(is_whole(results / "slides" / row["slide"]) for row in archive
                if row["status"] == "done")  # fmt: skip
    refused = sum(bool(row["reason"]) for row in failures)
    print(f"seed {SEED}: {whole} done, {refused} refused; {done.stdout[-300:]}")
    assert whole >= count // 2
    for name in ("archive", "failures"):
        assert formulas(results / f"{name}.tsv") == []
    check_page(results / "morning.html")
    assert (done.returncode == 0) == (refused == 0)
    assert crate.returncode == 0, crate.stdout[-2000:]
    described = json.loads((results / "ro-crate-metadata.json").read_bytes())["@graph"]
    told = " ".join(entity["@id"] for entity in described)
    assert all(f"slides/{row['slide']}/" in told for row in archive if row["status"] == "done")
    figure("hostile names through the whole chain", count, len(placed), whole + refused)


@pytest.mark.parametrize("alive", [CLASSES[1], CHANNEL, "<b onclick=x>", "</td>", "<iframe>"])
def test_the_check_finds_what_is_alive(tmp_path, alive):
    """The mutation check: a page that does not escape."""
    page = tmp_path / "page.html"
    around = f"<style></style><script></script><p>{html.escape(CLASSES[1])}{{}}</p>"
    page.write_text(around.format(html.escape(alive)))
    check_page(page)
    page.write_text(around.format(alive))
    with pytest.raises(AssertionError):
        check_page(page)
