"""make init: what lies in a folder becomes a configuration that the workflow takes."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import yaml
from slideunet import settings, tables
from slideunet.configuration import read_configuration
from slideunet.starting import label_of, name_of


def outline(name):
    ring = [[1, 1], [20, 1], [20, 20], [1, 20], [1, 1]]
    return {
        "type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "classification": {"name": name}},
    }  # fmt: skip


@pytest.fixture
def slides(tmp_path):
    """Three slides, one annotated in QuPath, one by a label image, one with an odd name."""
    folder = tmp_path / "my slides"
    folder.mkdir()
    for name in ("a.svs", "b.ome.tif", "c #1.tif"):
        (folder / name).write_bytes(b"\0")
    names = ["Tumor: core", "Region*", "Ignore*", "background"]
    collection = {"type": "FeatureCollection", "features": [outline(name) for name in names]}
    (folder / "a.geojson").write_text(json.dumps(collection))
    tifffile.imwrite(folder / "b_label.tif", np.ones((32, 32), np.uint8))
    return folder


def init(project, cwd, *arguments):
    return subprocess.run(
        [sys.executable, project / "workflow" / "init.py", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip


def schema(project, name):
    return yaml.safe_load((project / "workflow" / "schemas" / f"{name}.schema.yaml").read_text())


def test_a_folder_becomes_a_configuration_that_is_taken(project, slides, monkeypatch):
    done = init(project, slides.parent, slides)
    assert done.returncode == 0, done.stderr
    assert "3 slides, 2 annotated" in done.stdout
    monkeypatch.chdir(slides.parent)
    config = read_configuration(project, ["my-slides.yaml"])
    assert config["classes"] == ["background", "Tumor: core"]
    training = tables.read_training(config["training"], schema(project, "training"))
    settings.check_splits(config, training)
    assert {row["split"] for row in training.values()} == {"train", "test"}
    assert {row["label"].rsplit("/")[-1] for row in training.values()} == {
        "a.geojson",
        "b_label.tif",
    }
    rows, refused = tables.read_slides(config["slides"], schema(project, "slides"))
    assert len(rows) == 3 and not refused
    text = (slides.parent / "my-slides.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=")
    assert (project / "workflow/schemas/config.schema.yaml").resolve().as_posix() in text
    again = init(project, slides.parent, slides)
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert (slides.parent / "my-slides.yaml").read_text() == text


def test_each_value_is_the_default_or_said(project, slides, monkeypatch):
    """The file repeats defaults as a beginning: they must not drift from config.yaml."""
    init(project, slides.parent, slides)
    written = yaml.safe_load((slides.parent / "my-slides.yaml").read_text())
    default = yaml.safe_load((project / "config.yaml").read_text())
    for section in ("network", "train", "objects", "segment"):
        for key, value in written[section].items():
            assert value == default[section][key], f"{section}.{key}"


def test_without_annotations_the_file_says_what_to_do(project, slides, monkeypatch):
    (slides / "a.geojson").unlink()
    (slides / "b_label.tif").unlink()
    done = init(project, slides.parent, slides, "--name", "bare")
    assert "3 slides, 0 annotated" in done.stdout
    text = (slides.parent / "bare.yaml").read_text()
    assert "No annotation was found beside a slide: fill in the table, or set `model`" in text
    monkeypatch.chdir(slides.parent)
    config = read_configuration(project, ["bare.yaml"])
    with pytest.raises(tables.UserError, match="no image in it"):
        tables.read_training(config["training"], schema(project, "training"))


def test_one_annotated_image_says_what_its_accuracy_is_worth(project, slides, monkeypatch):
    (slides / "b_label.tif").unlink()
    init(project, slides.parent, slides)
    assert "that on the image trained on" in (slides.parent / "my-slides.yaml").read_text()
    monkeypatch.chdir(slides.parent)
    config = read_configuration(project, ["my-slides.yaml"])
    settings.check_splits(
        config, tables.read_training(config["training"], schema(project, "training"))
    )


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("none", "none: no such folder: give the folder"),
        ("empty", "empty: no slide there: give"),
        ("", "no folder given: make init FOLDER=/data/slides"),
    ],
)
def test_a_mistake_is_one_line(project, tmp_path, folder, message):
    (tmp_path / "empty").mkdir()
    done = init(project, tmp_path, folder)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_folder_of_pictures_does_as_well(project, tmp_path):
    folder = tmp_path / "pictures [1]"
    folder.mkdir()
    for name in ("a.png", "a_label.png", "b.JPG", "notes.txt"):
        (folder / name).write_bytes(b"\0")
    assert "2 slides, 1 annotated" in init(project, tmp_path, folder).stdout
    rows = (tmp_path / "pictures-1-training.tsv").read_text().splitlines()[1:]
    assert rows == [f"a\t{folder}/a.png\t{folder}/a_label.png\ttrain"]
    # beside a slide they are taken for its thumbnails
    (folder / "c.svs").write_bytes(b"\0")
    assert "1 slide, 0 annotated" in init(project, tmp_path, folder, "--name", "again").stdout


def test_a_slide_with_a_bad_name_is_left_out_and_named(project, slides):
    (slides / "{d}.svs").write_bytes(b"\0")
    assert "1 not usable" in init(project, slides.parent, slides).stdout
    assert "{d}.svs" in (slides.parent / "my-slides-slides.tsv").read_text()


def test_names():
    assert name_of("/data/my slides (2)/") == "my-slides-2"
    assert name_of("...") == "slides"
    assert label_of("/none/a.svs", {}) is None


def test_pictures_with_label_images_are_not_slides(project, tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    for name in ("p.png", "p_label.tif", "q.png", "q_mask.ome.tif", "r.png"):
        (folder / name).write_bytes(name.encode())
    assert "3 slides, 2 annotated" in init(project, tmp_path, folder).stdout


def test_annotations_are_found_whatever_their_case(project, tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    for name in ("A.TIF", "A.GEOJSON", "B.TIF", "B_LABEL.TIF"):
        (folder / name).write_bytes(name.encode())
    ring = [[0, 0], [9, 0], [9, 9], [0, 0]]
    outline = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}}
    (folder / "A.GEOJSON").write_text(json.dumps({**outline, "properties": {}}))
    assert "2 slides, 2 annotated" in init(project, tmp_path, folder).stdout
