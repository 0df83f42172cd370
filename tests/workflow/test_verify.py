"""Damage of results is found and named, refused by what would read it, and mended in its place."""

import random
import subprocess
import sys
from pathlib import Path

import pytest


def verify(project, *arguments):
    command = [sys.executable, "workflow/verify.py", *arguments]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_whole_results_are_whole(finished_project):
    status, said = verify(finished_project)
    assert status == 0, said
    assert ", 0 damaged" in said
    assert int(said.split()[0]) >= 11  # 2 images, 2 maps, 1 model, 1 evaluation, 5 of the slide


# one file of each kind: pixels, weight maps, weights, tables, pictures, outlines, the slide itself
KINDS = [
    "results/images/a.zarr/**/c/*/*/*",
    "results/weights/a.zarr/**/c/*/*",
    "results/models/main/model.safetensors",
    "results/models/main/history.tsv",
    "results/evaluation/main.png",
    "results/slides/one/thumbnail.png",
    "results/slides/one/segmentation.ome.zarr/**/c/*/*/*",
    "results/slides/one/objects.ome.zarr/**/c/*/*",
    "results/slides/one/objects.parquet",
    "results/slides/one/objects.geojson.gz",
    "results/slides/one/pictures/overlay.png",
    "raw/one.ome.tif",
]


def damage(path: Path, kind: str, seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(path.read_bytes())
    if kind == "flip":
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
    elif kind == "cut":
        path.write_bytes(data[: chance.randrange(len(data))])
    else:
        path.unlink()


@pytest.mark.parametrize("kind", ["flip", "cut", "delete"])
def test_every_damaged_file_is_named(finished_project, kind):
    hurt = set()
    for number, pattern in enumerate(KINDS):
        found = [path for path in sorted(finished_project.folder.glob(pattern)) if path.is_file()]
        path = found[number % len(found)]
        damage(path, kind, number)
        hurt.add(path.relative_to(finished_project.folder).as_posix())
    status, said = verify(finished_project)
    assert status == 1
    named = {line.split(": ")[0] for line in said.splitlines()[:-1]}
    assert named == hurt
    assert "Traceback" not in said


def test_repair_makes_the_damaged_part_anew(finished_project):
    before = finished_project.results()
    weights = finished_project.folder / "results/models/main/model.safetensors"
    damage(weights, "flip", 0)
    table = finished_project.folder / "results/slides/one/objects.parquet"
    damage(table, "cut", 1)
    status, said = verify(finished_project, "--repair")
    assert status == 1 and ", 2 damaged" in said
    planned = finished_project.planned()
    assert not {"ingest", "weights", "index"} & planned.keys()
    finished_project.snakemake()
    assert finished_project.results() == before
    assert verify(finished_project)[0] == 0


def test_a_wrong_folder_is_one_line(finished_project):
    status, said = verify(finished_project, "nowhere")
    assert status == 1
    assert said == "nowhere: no such folder: name the configuration's `results`\n"
