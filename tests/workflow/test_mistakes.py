"""A user's mistake ends with one line that names file and reason, and leaves nothing whole.

The table: what was asked, the mistake, and the line that answers it, word for word. What is settled
before the first job and what a stage refuses is asked for in this process, as the rules ask for it
(mistakes.py); at the end some go through Snakemake. What Snakemake refuses in options of its own
(`--resources gpu`) it tells in its own words, with a traceback: no workflow can change that.
"""

import shutil

import numpy as np
import pytest
from mistakes import (
    CARD,
    COLOURS,
    OUTLINE,
    asks_for,
    before,
    both,
    call,
    command,
    config,
    cut,
    index,
    ingest,
    picture,
    plan,
    refused,
    row,
    settled,
    slides,
    take_model,
    text,
    training,
)
from small_project import make_project

MISTAKES = [
    # the command line, and files that are no configuration
    (
        before,
        call("--configfile", "none.yaml"),
        "none.yaml: No such file or directory: give the path of a configuration",
    ),
    (
        before,
        call("--cores", "2", "--configfile", "smal.yaml", "-n"),
        "smal.yaml: No such file or directory: did you mean 'small.yaml'?",
    ),
    (
        before,
        call("--configfile=small.yaml", "--configfiles", "tables"),
        "tables: Is a directory: give the path of a configuration",
    ),
    (before, text("small.yaml", ""), "small.yaml: no configuration: lines KEY: VALUE are wanted"),
    (
        before,
        text("small.yaml", b"\x89PNG"),
        "small.yaml: no UTF-8 text ('utf-8' codec can't decode byte 0x89 in position 0: invalid "
        "start byte): save it as such",
    ),
    (
        before,
        text("small.yaml", "train:\n\tsteps: 3\n"),
        "small.yaml: line 2: not YAML (found character that cannot start any token): indent with "
        "blanks, not tabs",
    ),
    (
        before,
        text("small.yaml", "train:\n  steps: 3\n   batch: 2\n"),
        "small.yaml: line 3: not YAML (mapping values are not allowed in this context): KEY: "
        "VALUE is wanted, the keys of a section indented by the same number of blanks",
    ),
    (
        before,
        text("small.yaml", "slides: *.svs\n"),
        "small.yaml: line 1: not YAML (did not find expected alphabetic or numeric character): "
        "text that begins with * stands in quotes",
    ),
    (
        before,
        text("small.yaml", "results: 2026-13-45\n"),
        "small.yaml: a value that YAML can't read (month must be in 1..12): put it in quotes",
    ),
    (
        before,
        text("config.yaml", "- results\n"),
        "config.yaml: no configuration: lines KEY: VALUE are wanted",
    ),
    (
        before,
        call("--config", "results=try", "train.steps=3"),
        "--config train.steps=3: write 'train={steps: 3}', in quotes",
    ),
    (before, call("-C", "train"), "--config train: write KEY=VALUE, such as results=try"),
    # the configuration
    (plan, config(trainn={"steps": 3}), "config: unknown key 'trainn': did you mean 'train'?"),
    (plan, config(train={"step": 3}), "config: train: unknown key 'step': did you mean 'steps'?"),
    (plan, config(steps=3), "config: unknown key 'steps': it belongs in section train, indented"),
    (
        plan,
        text("small.yaml", "train: {steps: 3}\nslides: ''\ntrain: {batch: 2}\n"),
        "small.yaml: line 3: 'train' stands in line 1 already: put both together",
    ),
    (
        plan,
        text("small.yaml", "train:\n"),
        "config: train: nothing is given: a section of keys is wanted (the training)",
    ),
    (
        plan,
        config(train={"steps": "many"}),
        "config: train.steps: 'many': a whole number is wanted (gradient steps)",
    ),
    (
        plan,
        config(train={"learning_rate": "1e-3"}),
        "config: train.learning_rate: '1e-3': a number is wanted: write 0.001 (step length)",
    ),
    (
        plan,
        config(train={"steps": 0}),
        "config: train.steps: 0: at least 1 is wanted (gradient steps)",
    ),
    (
        plan,
        config(train={"optimiser": "adam"}),
        "config: train.optimiser: 'adam': take one of adamw, sgd (sgd is the paper's)",
    ),
    (
        plan,
        config(train={"processes": 2}),
        "config: train.processes of model main: a batch of 1 has no 2 equal shares: set "
        "train.batch to a multiple of 2",
    ),
    (
        plan,
        config(train={"input_px": 93}),
        "config: train.input_px of model main: an input tile of 93 px does not fit a network "
        "of depth 2: take 92 or 96 px",
    ),
    (
        plan,
        config(segment={"tile_px": 129}),
        "config: segment.tile_px: a tile step of 129 px is no multiple of 2^depth = 4: take "
        "128 or 132 px",
    ),
    (
        plan,
        config(segment={"tile_px": "512 px"}),
        "config: segment.tile_px: '512 px': auto, or the step between tiles in px, a multiple"
        " of 2^depth",
    ),
    (
        plan,
        config(segment={"shard_px": 200}),
        "config: segment.shard_px: 200 is no multiple of segment.chunk_px = 128",
    ),
    (
        plan,
        config(segment={"ngff": 0.5}),
        'config: segment.ngff: 0.5: write it in quotes, "0.5" (OME-Zarr version)',
    ),
    (
        plan,
        config(segment={"models": ["other"]}),
        "config: segment.models: no model is called 'other': take of main",
    ),
    (
        plan,
        config(objects={"threshold": 50}),
        "config: objects.threshold: 50: less than 1 is wanted (probability of any foreground "
        "(source: probability))",
    ),
    (
        plan,
        config(objects={"connectivity": 6}),
        "config: objects.connectivity: 6: take one of 4, 8 (neighbours that belong together)",
    ),
    (
        plan,
        config(classes="nucleus"),
        "config: classes: 'nucleus': a list is wanted: [nucleus] (class names, the background"
        " first)",
    ),
    (
        plan,
        config(classes=["nucleus"]),
        "config: classes: ['nucleus']: a list of at least 2 is wanted (class names, the "
        "background first)",
    ),
    (
        plan,
        config(classes=["background", "nucleus", "nucleus"]),
        "config: classes: ['background', 'nucleus', 'nucleus']: one of them stands twice "
        "(class names, the background first)",
    ),
    (
        plan,
        config(results="night {1}"),
        "config: results: 'night {1}': { } < > and line ends can't be used in a path: rename "
        "or link it (folder that everything is written to)",
    ),
    (
        plan,
        config(results="tables/slides.tsv/night"),
        "config: results: 'tables/slides.tsv/night': tables/slides.tsv is no folder: give another "
        "path",
    ),
    (
        plan,
        config(results="~/night"),
        "config: results: '~/night': ~ and variables are not put in here: write the path out",
    ),
    (
        plan,
        config(results=None),
        "config: results: nothing is given: text is wanted (folder that everything is written to)",
    ),
    (
        plan,
        config(slides=None),
        'config: slides: nothing is given: text is wanted, "" for none (table of slides to '
        "segment, a folder or a glob of them (docs/slurm.md); empty for none)",
    ),
    (
        plan,
        config(slides=7),
        'config: slides: 7: text is wanted: in quotes, "7" (table of slides to segment, a '
        "folder or a glob of them (docs/slurm.md); empty for none)",
    ),
    # models
    (
        plan,
        config(models={"second": {"train_on": ["train"]}}),
        "config: models.second.test_on: missing (splits to validate and evaluate on)",
    ),
    (
        plan,
        config(models={"main": {"train_on": []}}),
        "config: models.main.train_on: []: a list of at least 1 is wanted (splits to train on)",
    ),
    (
        plan,
        config(models={"main": {"train_on": ["train"], "test_on": ["validation"]}}),
        "config: models.main.test_on: no row of tables/training.tsv has split 'validation': "
        "there are test, train",
    ),
    (
        plan,
        config(models={"my model": {"train_on": ["train"], "test_on": ["test"]}}),
        "config: models: name 'my model': 1 to 64 letters, digits, _ and -, a letter or digit"
        " first",
    ),
    (
        plan,
        config(train={"start_from": "models/none.json"}),
        "config: train.start_from of model main: 'models/none.json': no such file: give the "
        "path of model.json or train.json of a trained model",
    ),
    (
        plan,
        config(model="models/none.json"),
        "config: model: 'models/none.json': no such file: give the path of model.json or "
        "train.json of a trained model",
    ),
    (
        plan,
        config(model="raw"),
        "config: model: 'raw': a folder: give the path of model.json or train.json of a "
        "trained model",
    ),
    (
        plan,
        config(model="raw/a.tif"),
        "config: model: 'raw/a.tif': not a model's description: give the path of model.json "
        "or train.json of a trained model",
    ),
    (
        take_model,
        both(config(model="m.json"), text("m.json", "{}")),
        "m.json: not a model card of this workflow (format 'unet-slides model 1')",
    ),
    (
        take_model,
        both(config(model="m.json"), text("m.json", CARD)),
        "m.json: the card is not as it was written (checksum differs); if you edited it on "
        "purpose, remove its line `checksum`",
    ),
    # --config and files asked for on the command line
    (plan, command("trian={steps: 3}"), "config: unknown key 'trian': did you mean 'train'?"),
    (plan, command("train={step: 3}"), "config: train: unknown key 'step': did you mean 'steps'?"),
    (
        plan,
        command("train={steps: many}"),
        "config: train.steps: 'many': a whole number is wanted (gradient steps)",
    ),
    (
        plan,
        command("objects={threshold: 2}"),
        "config: objects.threshold: 2: less than 1 is wanted (probability of any foreground "
        "(source: probability))",
    ),
    (
        plan,
        command("slides="),
        'config: slides: nothing is given: text is wanted, "" for none (table of slides to '
        "segment, a folder or a glob of them (docs/slurm.md); empty for none)",
    ),
    (
        plan,
        asks_for("results/models/mian/train.json"),
        "results/models/mian/train.json: no model 'mian': did you mean 'main'?",
    ),
    (
        plan,
        asks_for("results/evaluation/second.json"),
        "results/evaluation/second.json: no model 'second': there are main (config: models)",
    ),
    (
        plan,
        asks_for("results/slides/nine/slide.json"),
        "results/slides/nine/slide.json: no slide 'nine': there are one (config: slides: "
        "tables/slides.tsv)",
    ),
    # the table of training images
    (
        plan,
        config(training="tables/train.tsv"),
        "tables/train.tsv: No such file or directory: give the path of a table in config",
    ),
    (plan, training(""), "tables/training.tsv: empty: its first line must name the columns"),
    (plan, training("id image label"), "tables/training.tsv: no image in it: add at least one row"),
    (
        plan,
        training("id,image,label", "a,raw/a.tif,raw/a_label.tif"),
        "tables/training.tsv: its columns are parted by ',': part them by tabs",
    ),
    (
        plan,
        text("tables/training.tsv", b"PK\x03\x04\x8a\xff"),
        "tables/training.tsv: not a table of tab-separated UTF-8 text: save it as such from "
        "your program ('utf-8' codec can't decode byte 0x8a in position 4: invalid start "
        "byte)",
    ),
    (
        plan,
        training("id image", "a raw/a.tif"),
        "tables/training.tsv: no column 'label': the first line has id, image",
    ),
    (
        plan,
        training("id image label splitt", "a raw/a.tif raw/a_label.tif train"),
        "tables/training.tsv: unknown column 'splitt': did you mean 'split'?",
    ),
    (
        plan,
        training("id image label", "a raw/a.tif raw/a_label.tif", "a raw/b.tif raw/b_label.tif"),
        "tables/training.tsv: line 3: id 'a' stands twice: ids must differ",
    ),
    (
        plan,
        training("id image label", "a.1 raw/a.tif raw/a_label.tif"),
        "tables/training.tsv: line 2: id 'a.1': 1 to 64 letters, digits, _ and -, a letter or"
        " digit first",
    ),
    (
        plan,
        training("id image label", "a raw/a.tif"),
        "tables/training.tsv: line 2: no label given for 'a'",
    ),
    (
        plan,
        training("id image label", "a raw/a.tif raw/a_label.tif train"),
        "tables/training.tsv: line 2: 4 cells, but the header has 3",
    ),
    (
        plan,
        training("id image label", "a raw/none.tif raw/a_label.tif"),
        "tables/training.tsv: line 2: image 'raw/none.tif': no such file",
    ),
    (
        plan,
        training("id image label", "a $NOT_SET/a.tif raw/a_label.tif"),
        "tables/training.tsv: line 2: image '$NOT_SET/a.tif': no such file (the environment "
        "variable is not set)",
    ),
    (
        plan,
        training("id image label region", "a raw/a.tif raw/a_label.tif 0,0,64"),
        "tables/training.tsv: line 2: region '0,0,64': y,x,height,width in px of the file, "
        "four whole numbers; empty: what Region* outlines or column annotated say, else all "
        "of it",
    ),
    (
        plan,
        training("id image label label_type", "a raw/a.tif raw/a_label.tif masks"),
        "tables/training.tsv: line 2: label_type 'masks': take one of auto, instances, mask, "
        "xml, geojson",
    ),
    (
        plan,
        training("id image label mpp_um", "a raw/a.tif raw/a_label.tif 0,5"),
        "tables/training.tsv: line 2: mpp_um '0,5': pixel size, um, such as 0.25, instead of "
        "what the file says",
    ),
    # training images and their labels
    (
        ingest,
        text("raw/a.tif", b"no picture at all"),
        "raw/a.tif: no format that is known here; OpenSlide doesn't know it either",
    ),
    (ingest, text("raw/a.tif", b""), "raw/a.tif: empty file"),
    (
        ingest,
        picture("raw/a.tif", np.full((128, 160), np.nan, np.float32)),
        "raw/a.tif: 20480 values are NaN or infinite, the first in channel 0 at y=0 x=0: mend"
        " the image",
    ),
    (
        ingest,
        row(region="0,0,500,500"),
        "raw/a.tif: region y=0 x=0 of 500 x 500 px is not within the image of 128 x 160 px "
        "(height x width)",
    ),
    (
        ingest,
        row(to_mpp_um="0.5"),
        "raw/a.tif: has no pixel size, so it can't be brought to 0.5 um (to_mpp_um): give it "
        "in column mpp_um",
    ),
    (
        ingest,
        row(label="raw/a.tif"),
        "raw/a.tif: all object, no background (background) in it: inverted, or the wrong "
        "label_type?",
    ),
    (
        ingest,
        row(label_type="mask"),
        "raw/a_label.tif: 21 values where a mask has two: if each object has a number of its "
        "own, set label_type to instances",
    ),
    (
        ingest,
        picture("raw/a_label.tif", np.ones((64, 64), np.uint8)),
        "raw/a_label.tif: is 64 x 64 px (height x width), its image 128 x 160: they must be "
        "of one size",
    ),
    (
        ingest,
        picture("raw/a_label.tif", np.zeros((128, 160), np.uint8)),
        "raw/a_label.tif: all background, no object within the image: wrong file or region?",
    ),
    (
        ingest,
        picture("raw/a_label.tif", np.ones((128, 160), np.uint8)),
        "raw/a_label.tif: all object, no background (background) in it: inverted, or the "
        "wrong label_type?",
    ),
    (
        ingest,
        picture("raw/a_label.tif", COLOURS, photometric="rgb"),
        "raw/a_label.tif: 3 channels, a label image has one: save it as a grey image",
    ),
    (
        ingest,
        picture("raw/a_label.tif", np.full((128, 160), 0.5, np.float32)),
        "raw/a_label.tif: values such as 0.5 are no label: save it as integers",
    ),
    (
        ingest,
        picture("raw/a_label.tif", np.full((128, 160), -1, np.int16)),
        "raw/a_label.tif: label -1 is negative: if it marks what nobody annotated, give it in"
        " column ignore_value",
    ),
    (
        ingest,
        config(classes=["background", "tumour", "stroma"]),
        "raw/a_label.tif: a label image does not say which of the classes tumour, stroma an "
        "object has: use GeoJSON outlines with classes",
    ),
    (
        ingest,
        both(row(label="raw/a.geojson"), text("raw/a.geojson", '{"features": []}')),
        "raw/a.geojson: no outline in it: draw at least one closed region and save again",
    ),
    (
        ingest,
        both(row(label="raw/a.geojson"), text("raw/a.geojson", OUTLINE)),
        "raw/a.geojson: outline 1 has the class 'Tumor': the classes are background, nucleus,"
        " Ignore*, Region*",
    ),
    # slides
    (
        plan,
        config(slides="raw/none.tsv"),
        "raw/none.tsv: No such file or directory: give the path of a table in config",
    ),
    (
        plan,
        config(slides="tables/"),
        "config: slides: tables/: no slide there: give a table, a glob, or a folder of files "
        "(.ome.tiff, .ome.tif, .ome.zarr, .zarr, .svs, .tiff, .tif, .qptiff, .ndpi, .scn, "
        ".mrxs, .bif, .vms, .vmu, .svslide, .czi) or folders of DICOM files",
    ),
    (
        refused,
        slides("id image", "one raw/none.svs"),
        "tables/slides.tsv: line 2: image 'raw/none.svs': no such file",
    ),
    (
        refused,
        slides("id image", "slide.one raw/one.ome.tif"),
        "tables/slides.tsv: line 2: id 'slide.one': 1 to 64 letters, digits, _ and -, a "
        "letter or digit first",
    ),
    (
        refused,
        slides("id image", "one raw/one.ome.tif", "one raw/two.ome.tif"),
        "tables/slides.tsv: line 3: id 'one' stands twice: ids must differ",
    ),
    (
        refused,
        slides("id image mpp_um", "one raw/one.ome.tif 0.5um"),
        "tables/slides.tsv: line 2: mpp_um '0.5um': pixel size, um, such as 0.25, instead of "
        "what the file says",
    ),
    (
        index,
        text("raw/one.ome.tif", b"no slide at all"),
        "raw/one.ome.tif: no format that is known here; OpenSlide doesn't know it either",
    ),
    (index, text("raw/one.ome.tif", b""), "raw/one.ome.tif: empty file"),
    (
        index,
        cut("raw/one.ome.tif", 9000),
        "raw/one.ome.tif: truncated: 12 of 12 tiles or strips of level 0 lie beyond the "
        "file's end (9000 bytes)",
    ),
    (
        index,
        picture("raw/one.ome.tif", np.zeros((12, 12), np.uint8)),
        "raw/one.ome.tif: 12 x 12 pixels: too small to be a slide (at least 64 a side)",
    ),
]


@pytest.fixture(scope="module")
def made_once(project, tmp_path_factory):
    return make_project(project, tmp_path_factory.mktemp("made") / "project").folder


@pytest.fixture
def here(made_once, tmp_path, monkeypatch):
    """The working folder: configuration, tables and images of a small project."""
    for name in ("raw", "tables"):
        shutil.copytree(made_once / name, tmp_path / name)
    for name in ("small.yaml", "config.yaml"):
        shutil.copy(made_once / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_mistake_nothing_is_said(here):
    assert before() is None
    assert plan() is None
    assert ingest() is None
    assert settled()[1].refused == []


@pytest.mark.parametrize(("asked", "made", "line"), MISTAKES)
def test_a_mistake_is_one_line(here, asked, made, line):
    how = made() or {}
    assert asked(**how) == line
    assert "\n" not in line


def test_a_slide_asked_for_whose_row_is_bad_says_why(here):
    slides("id image", "one raw/none.svs")()
    asked = asks_for("results/slides/one/slide.json")()
    said = "tables/slides.tsv: line 2: image 'raw/none.svs': no such file"
    assert plan(**asked) == f"results/slides/one/slide.json: {said}"


def test_overrides_of_the_command_line_have_the_types_of_a_file(here):
    values, _ = settled(
        overrides=(
            "train={steps: 30, learning_rate: 0.5, start_from: ''}",
            "segment={tile_px: 256, ngff: '0.4'}",
            "overlay={outline_rgb: [1, 2, 3]}",
            "index={copy: true}",
            "weights={class_balance: [1, 2.5]}",
            "slides=raw/one.ome.tif",
        )
    )
    assert (values["train"]["steps"], values["train"]["learning_rate"]) == (30, 0.5)
    assert values["train"]["batch"] == 1
    assert (values["segment"]["tile_px"], values["segment"]["ngff"]) == (256, "0.4")
    assert values["overlay"]["outline_rgb"] == [1, 2, 3]
    assert values["index"]["copy"] is True
    assert values["weights"]["class_balance"] == [1, 2.5]


@pytest.mark.parametrize(
    ("made", "arguments", "line"),
    [
        (config(train={"step": 3}), (), "config: train: unknown key 'step': did you mean 'steps'?"),
        (
            config(),
            ("--config", "train={steps: 0}"),
            "config: train.steps: 0: at least 1 is wanted (gradient steps)",
        ),
        (
            config(),
            ("results/models/mian/train.json",),
            "results/models/mian/train.json: no model 'mian': did you mean 'main'?",
        ),
        (config(), ("results/nothing.txt",), "No rule to produce results/nothing.txt"),
        (config(), ("--profile", "profiles/slrum"), "profile directory given (profiles/slrum)"),
        (
            text("small.yaml", "train:\n\tsteps: 3\n"),
            (),
            "\nsmall.yaml: line 2: not YAML (found character that cannot start any token): indent "
            "with blanks, not tabs\n",
        ),
        (
            config(),
            ("--config", "train.steps=3"),
            "\n--config train.steps=3: write 'train={steps: 3}', in quotes\n",
        ),
        (
            text("raw/a.tif", b"no picture at all"),
            (),
            "unet-slides: raw/a.tif: no format that is known here",
        ),
    ],
)
def test_snakemake_shows_the_line_and_leaves_nothing_whole(
    small_project, monkeypatch, made, arguments, line
):
    monkeypatch.chdir(small_project.folder)
    made()
    images = "results/images/a.json"
    done = small_project.snakemake(*(arguments or (images,)), check=False)
    assert done.returncode != 0
    assert line in done.stdout
    assert "Traceback" not in done.stdout
    assert not (small_project.folder / images).exists()


def test_overrides_reach_the_jobs(small_project):
    done = small_project.snakemake(
        "results/images/a.json", "--config", "classes=[nothing, cell]", "train={steps: 7}"
    )
    assert "1 of 1 steps (100%) done" in done.stdout
    assert small_project.read("results/images/a.json")["settings"]["classes"] == ["nothing", "cell"]
