"""Only what changed reruns: edit one thing in a finished project, ask what would run."""

import os
import shutil

import pytest
import tifffile

SLIDE_RULES = {"segment", "objects", "overlay", "compare", "archive", "morning", "verdict"}
MODEL_RULES = {"train", "evaluate", "summary", *SLIDE_RULES}
MODULES = "workflow/scripts/slideunet"


def touch_everything(project):
    for path in project.folder.rglob("*"):
        if path.is_file() and ".snakemake" not in path.parts and "results" not in path.parts:
            os.utime(path)


def edit(path, line="\nEDITED = 1\n"):
    def change(project):
        file = project.folder / path
        file.write_text(file.read_text() + line)

    return change


def configure(**changes):
    return lambda project: project.configure(**changes)


def change_rows(path):
    """The first rows of an image become 0."""

    def change(project):
        file = project.folder / path
        image = tifffile.imread(file)
        image[:20] = 0
        tifffile.imwrite(file, image, metadata=None)

    return change


def touch(path):
    return lambda project: os.utime(project.folder / path)


def replace_slide(project):
    source = project.folder / "raw" / "two.ome.tif"
    (project.folder / "raw" / "one.ome.tif").write_bytes(source.read_bytes())


def change_one_bit(project):
    """Same size, other time."""
    path = project.folder / "raw" / "one.ome.tif"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def check_out_again(project):
    """As git does on another branch and back: new files of the same content."""
    for name in ("workflow", "profiles", "tables", "raw", "Snakefile", "config.yaml"):
        path = project.folder / name
        copy = project.folder / f"{name}.copy"
        shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)
        path.rename(project.folder / f"{name}.before")
        copy.rename(path)


def move_slides(project):
    """To another folder, with new times."""
    (project.folder / "archive").mkdir()
    shutil.copy(project.folder / "raw" / "one.ome.tif", project.folder / "archive")
    (project.folder / "raw" / "one.ome.tif").unlink()
    project.write_table("slides", "id image label", "one archive/one.ome.tif raw/one_label.tif")


def move_project(project):
    """All of it, with the results and Snakemake's metadata."""
    project.folder = project.folder.rename(project.folder.with_name("elsewhere"))


def reorder_table(project):
    path = project.folder / "tables" / "training.tsv"
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *reversed(rows)]) + "\n")


def add_slide(project):
    project.write_table(
        "slides",
        "id image label",
        "one raw/one.ome.tif raw/one_label.tif",
        "two raw/two.ome.tif raw/two_label.tif",
    )


def add_training_image(project):
    project.write_table(
        "training",
        "id image label split",
        "a raw/a.tif raw/a_label.tif train",
        "b raw/b.tif raw/b_label.tif test",
        "c raw/c.tif raw/c_label.tif train",
    )


def edit_profile(project):
    path = project.folder / "profiles" / "local" / "config.yaml"
    path.write_text(path.read_text() + "\nset-resources:\n  train:\n    mem_mb: 1234\n")


TABLE = {
    "nothing": (lambda project: None, set()),
    "all files touched": (touch_everything, set()),
    "a slide touched": (touch("raw/one.ome.tif"), set()),
    "a training image touched": (touch("raw/a.tif"), set()),
    "a training label touched": (touch("raw/a_label.tif"), set()),
    "a reference label touched": (touch("raw/one_label.tif"), set()),
    "checked out again": (check_out_again, set()),
    "the project moved": (move_project, set()),
    "a slide moved": (move_slides, set()),
    "comment in a module": (edit(f"{MODULES}/geometry.py", "\n# a comment\n"), set()),
    "comment in a script": (edit("workflow/scripts/train.py", "\n# a comment\n"), set()),
    "script of a rule": (edit("workflow/scripts/train.py"), MODEL_RULES),
    "module of all scripts": (
        edit(f"{MODULES}/store.py"),
        {"ingest", "index", "weights", *MODEL_RULES},
    ),
    "module of training": (edit(f"{MODULES}/optimisation.py"), MODEL_RULES),
    "module of weight maps": (edit(f"{MODULES}/border.py"), {"weights", *MODEL_RULES}),
    "module of inference": (edit(f"{MODULES}/segmentation.py"), SLIDE_RULES),
    "module of objects": (
        edit(f"{MODULES}/hull.py"),
        {"objects", "overlay", "compare", "archive", "morning", "verdict"},
    ),
    "module of the tables": (
        edit(f"{MODULES}/slide_failures.py"),
        {"archive", "morning", "verdict"},
    ),
    "module of the Snakefile": (edit(f"{MODULES}/settings.py"), set()),
    "config network": (configure(network={"base_channels": 6}), MODEL_RULES),
    "config augment": (configure(augment={"noise": 0.2}), MODEL_RULES),
    "config train": (configure(train={"steps": 31}), MODEL_RULES),
    "config weights": (configure(weights={"preset": "falk2019"}), {"weights", *MODEL_RULES}),
    "config intensity": (configure(intensity={"high_percentile": 99}), {"index", *MODEL_RULES}),
    "config classes": (
        configure(classes=["background", "cell"]),
        {"ingest", "weights", *MODEL_RULES},
    ),
    "config models: groups": (
        configure(models={"main": {"group": "g", "train_on": ["train"], "test_on": ["test"]}}),
        {"summary", "morning", "verdict"},
    ),
    "config evaluate": (
        configure(evaluate={"min_area_px": 5}),
        {"evaluate", "summary", "compare", "archive", "morning", "verdict"},
    ),
    "config index": (configure(index={"thumbnail_px": 512}), {"index", *SLIDE_RULES}),
    "config segment: tile size": (configure(segment={"tile_px": 64}), SLIDE_RULES),
    "config segment: cluster": (configure(segment={"scheduler": "tcp://a:8786"}), set()),
    "config segment: parts": (configure(segment={"parts": 2}), {"segment_part", *SLIDE_RULES}),
    "config objects": (
        configure(objects={"min_area_px": 5}),
        {"objects", "overlay", "compare", "archive", "morning", "verdict"},
    ),
    "config objects: threads": (configure(objects={"threads": 2}), set()),
    "config overlay": (
        configure(overlay={"outline_rgb": [255, 0, 0]}),
        {"overlay", "archive", "morning", "verdict"},
    ),
    "config scratch": (configure(scratch="/tmp"), set()),
    "config demo": (configure(demo={"mpp_um": 0.5}), set()),
    "a training label": (change_rows("raw/a_label.tif"), {"ingest", "weights", *MODEL_RULES}),
    "a training image": (change_rows("raw/a.tif"), {"ingest", "weights", *MODEL_RULES}),
    "a slide": (replace_slide, {"index", *SLIDE_RULES}),
    "a slide: one bit of it": (change_one_bit, {"index", *SLIDE_RULES}),
    "a slide's reference": (
        change_rows("raw/one_label.tif"),
        {"compare", "archive", "morning", "verdict"},
    ),
    "order of the table": (reorder_table, set()),
    "one more slide": (add_slide, {"index", *SLIDE_RULES}),
    "one more training image": (add_training_image, {"ingest", "weights", *MODEL_RULES}),
    "resources of the profile": (edit_profile, set()),
    "the report's words": (edit("workflow/report/overlay.rst", "\nMore words.\n"), set()),
}


@pytest.mark.parametrize("what", TABLE)
def test_edit_one_thing_and_exactly_these_rules_rerun(finished_project, what):
    change, expected = TABLE[what]
    change(finished_project)
    assert set(finished_project.planned()) == expected
