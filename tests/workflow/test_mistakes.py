"""A user's mistake ends with one line that names file and reason, and leaves nothing whole."""

import re

import numpy as np
import pytest
import tifffile


def training(project, **cells):
    row = {"id": "a", "image": "raw/a.tif", "label": "raw/a_label.tif", "split": "train", **cells}
    project.write_table(
        "training",
        " ".join(row),
        " ".join(row.values()),
        " ".join({**row, "id": "b", "split": "test"}.values()),
    )


def missing_image(project):
    training(project, image="raw/none.tif")
    return r"training.tsv: line 2: image 'raw/none.tif': no such file"


def duplicate_id(project):
    project.write_table("training", "id image label", *["a raw/a.tif raw/a_label.tif"] * 2)
    return r"training.tsv: line 3: id 'a' stands twice"


def unreadable_image(project):
    (project.folder / "raw" / "a.tif").write_bytes(b"no picture at all")
    return r"raw/a.tif"


def shape_mismatch(project):
    tifffile.imwrite(project.folder / "raw" / "a_label.tif", np.ones((64, 64), np.uint8))
    return r"raw/a_label.tif.*64 x 64"


def one_class(project):
    tifffile.imwrite(project.folder / "raw" / "a_label.tif", np.zeros((128, 160), np.uint8))
    return r"raw/a_label.tif"


def unknown_key(project):
    project.configure(train={"step": 3})
    return r"config: train: unknown key 'step': did you mean 'steps'"


def wrong_type(project):
    project.configure(train={"steps": "many"})
    return r"config: train.steps: 'many' is not of type 'integer'"


def unfit_tile(project):
    project.configure(train={"input_px": 93})
    return r"config: train.input_px of model main: .* depth 2: take 92 or 96 px"


@pytest.mark.parametrize(
    "mistake",
    [
        missing_image,
        duplicate_id,
        unreadable_image,
        shape_mismatch,
        one_class,
        unknown_key,
        wrong_type,
        unfit_tile,
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_whole(small_project, mistake):
    message = mistake(small_project)
    done = small_project.snakemake("results/models/main/train.json", check=False)
    assert done.returncode != 0
    lines = [line for line in done.stdout.splitlines() if re.search(message, line)]
    assert lines, f"no line says {message!r}:\n{done.stdout}"
    assert "Traceback" not in done.stdout
    results = small_project.folder / "results"
    assert not (results / "images" / "a.json").exists()
    assert not (results / "models" / "main" / "train.json").exists()
