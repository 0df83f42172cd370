"""Hostile names from end to end: nothing runs, nothing lies outside, each has its line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hostile_names import CANARY, names
from slideunet import slide_folder, tables
from small_archive import write_slide
from small_project import make_project

SEED = 13
WANTED = ("results", ".snakemake")


def tree(project: Path) -> set[bytes]:
    """All that lies in and beside the project but what the workflow is to write."""
    found = set()
    for base, folders, files in os.walk(os.fsencode(project.parent)):
        if base == os.fsencode(project):
            folders[:] = [name for name in folders if os.fsdecode(name) not in WANTED]
        folders[:] = [name for name in folders if name != b"__pycache__"]
        found |= {os.path.join(base, name) for name in (*folders, *files)}
    return found


def place(folder: Path, slide: Path, wanted: list[bytes]) -> list[bytes]:
    """Copies of the slide with these names; each tenth a link, a pipe, a folder, a way out."""
    folder.mkdir()
    made = []
    for number, name in enumerate(wanted):
        path = os.path.join(os.fsencode(folder), name)
        try:
            if number % 40 == 10:
                os.symlink(b"../../../../../../etc/passwd", path)
            elif number % 40 == 20:
                os.mkfifo(path)
            elif number % 40 == 30:
                os.symlink(name, path)
            else:
                shutil.copyfile(slide, path)
        except OSError:  # the file system itself refuses it
            continue
        made.append(name)
    return made


def fits_a_table(name: bytes) -> bool:
    """Whether a table of text can hold the name at all."""
    text = os.fsdecode(name)
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return not set("\t\n\r") & set(text)


def of_table(folder: Path, placed: list[bytes]) -> list[str]:
    """Rows of a table with these names as paths."""
    rows = ["id\timage"]
    for number, name in enumerate(placed):
        path = f"{folder.name}/{os.fsdecode(name)}"
        if '"' in path:
            path = '"' + path.replace('"', '""') + '"'
        rows.append(f"t{number}\t{path}")
    return rows


def through(project, *arguments) -> subprocess.CompletedProcess:
    return project.snakemake(*arguments, "--keep-going", check=False)


@pytest.mark.parametrize("given", ["folder", "table"])
@pytest.mark.parametrize("count", [6, pytest.param(150, marks=pytest.mark.faults)])
def test_hostile_names_are_indexed_or_refused(project, tmp_path, figure, given, count):
    made = make_project(project, tmp_path / "project")
    wanted = names(400, SEED)[given == "table" :: 2]
    if given == "table":
        wanted = [name for name in wanted if fits_a_table(name)]
    wanted = wanted[:count]
    write_slide(tmp_path / "slide.tif", 1, (80, 90))
    placed = place(made.folder / "named", tmp_path / "slide.tif", wanted)
    made.configure(slides="named" if given == "folder" else "tables/named.tsv")
    if given == "table":
        rows = of_table(made.folder / "named", placed)
        (made.folder / "tables" / "named.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    before = tree(made.folder)
    done = through(made, "--until", "index")
    after = tree(made.folder)
    assert sorted(after - before) == [], "outside the output folder"
    assert before <= after
    assert not any(os.fsencode(CANARY) == os.path.basename(path) for path in after)
    usable, refused = settled(made, given)
    lines = [row["reason"] for row in refused]
    good = sum("\n" not in line and "\r" not in line for line in lines)
    for name in usable:
        manifest = made.folder / "results" / "slides" / name / "slide.json"
        content = json.loads(manifest.read_bytes()) if manifest.exists() else None
        ended = content is not None and (
            content["status"] == "done" or "\n" not in content["failure"]["reason"]
        )
        if not ended:
            print(name, usable[name], done.stdout[-3000:])
        good += ended
    asked = len(placed)
    print(f"seed {SEED}: {len(usable)} indexed or failed, {len(refused)} refused of {asked}")
    assert len(usable) + len(refused) == asked
    figure(f"hostile names by {given}: nothing executed, nothing outside", count, asked, good)


def settled(made, given: str) -> tuple[dict, list[dict]]:
    """What the Snakefile makes of the slides: id -> row, and the refused ones."""
    schema = yaml.safe_load((made.folder / "workflow/schemas/slides.schema.yaml").read_text())
    here = os.getcwd()
    os.chdir(made.folder)
    try:
        if given == "folder":
            return slide_folder.read_slides("named", schema)
        return tables.read_slides("tables/named.tsv", schema)
    finally:
        os.chdir(here)


def test_a_shell_would_run_them(tmp_path):
    """The mutation check: what an unquoted command does with these names."""
    for name in names(60, SEED):
        if b"\0" not in name:
            subprocess.run(
                ["sh", "-c", b"cat " + name + b" 2>&1"], cwd=tmp_path, capture_output=True,
                stdin=subprocess.DEVNULL, check=False, timeout=10, env={"PATH": os.environ["PATH"]},
            )  # fmt: skip
    assert any(CANARY in path.name for path in tmp_path.iterdir()), sys.platform
