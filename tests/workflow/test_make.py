"""The Makefile's targets hand on what a user gives them, and mistakes stay one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def make(small_project, project):
    """Call make in a small project, in the environment that runs the tests."""
    shutil.copy(project / "Makefile", small_project.folder)
    venv = Path(sys.executable).parents[1]

    def call(*arguments):
        command = ["make", "--no-print-directory", f"VENV={venv}", "-o", venv / "installed"]
        # A make that runs the tests would hand its own variables on.
        kept = {name: value for name, value in os.environ.items() if "MAKE" not in name}
        return subprocess.run(
            [*command, *arguments], cwd=small_project.folder, env=kept,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return call


def test_init_takes_a_folder_and_what_it_wrote_is_taken(make, small_project):
    slides = small_project.folder / "my slides"
    slides.mkdir()
    shutil.copy(small_project.folder / "raw" / "one.ome.tif", slides)
    done = make("init", f"FOLDER={slides}")
    assert done.returncode == 0, done.stderr
    assert "1 slide, 0 annotated" in done.stdout
    assert (small_project.folder / "my-slides.yaml").is_file()
    assert make("init", f"FOLDER={slides}", "NAME=again").returncode == 0
    done = make("status", "ARGS=--profile profiles/local --configfile again.yaml")
    assert done.returncode == 0, done.stderr
    assert "1 to do" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["init"], "no folder given: make init FOLDER=/data/slides"),
        (["init", "FOLDER=none"], "none: no such folder: give the folder that your slides lie in"),
        (["status", "ARGS=--configfile smal.yaml"], "smal.yaml: No such file or directory: did"),
        (["explain", "ARGS=--configfile smal.yaml"], "smal.yaml: No such file or directory: did"),
        (["stages", "ARGS=--configfile smal.yaml"], "smal.yaml: No such file or directory: did"),
        (["explain", "ARGS=--cores two"], "Error: Error parsing number of cores"),
        (["verify", "RESULTS=none"], "none: no such folder: name the configuration's `results`"),
    ],
)
def test_a_mistake_is_one_line(make, arguments, line):
    done = make(*arguments)
    assert done.returncode != 0
    said = [said for said in done.stderr.splitlines() if said and not said.startswith("make: ***")]
    assert len(said) == 1
    assert said[0].startswith(line)
