"""A project in which one thing is wrong, and the parts of the workflow that are to say so.

Made by a user: `config`, `command`, `training`, ... return what is done to a small project in the
working folder. Asked then: `plan`, `ingest`, `index`, ... return the line, or None.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tifffile
import yaml
from slideunet import command_line, configuration, inputs
from slideunet.errors import UserError
from slideunet.stages import import_model as import_stage
from slideunet.stages import index as index_stage
from slideunet.stages import ingest as ingest_stage
from snakemake.cli import parse_config

WORKFLOW = Path(__file__).parents[2] / "workflow"
Made = Callable[[], dict | None]

COLOURS = np.random.default_rng(0).integers(0, 255, (128, 160, 3), np.uint8)
CARD = json.dumps({"format": "unet-slides model 1", "checksum": "0", "channels": 1})
OUTLINE = json.dumps(
    {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[[5, 5], [40, 5], [40, 40], [5, 5]]]},
        "properties": {"classification": {"name": "Tumor"}},
    }
)

# -- what a user does ---------------------------------------------------------------------------


def config(**changes: object) -> Made:
    """Other values in the configuration: section={key: value} or key=value."""

    def made():
        values = yaml.safe_load(Path("small.yaml").read_text())
        for key, value in changes.items():
            merge = isinstance(value, dict) and isinstance(values.get(key), dict)
            values[key] = {**values[key], **value} if merge else value
        Path("small.yaml").write_text(yaml.safe_dump(values))

    return made


def command(*overrides: str) -> Made:
    """--config on the command line."""
    return lambda: {"overrides": overrides}


def asks_for(target: str) -> Made:
    """A file asked for on the command line."""
    return lambda: {"arguments": ["--cores", "2", "-n", target]}


def call(*arguments: str) -> Made:
    """What stands behind `snakemake` on the command line."""
    return lambda: {"arguments": arguments}


def text(path: str, content: str | bytes) -> Made:
    """A file of this content."""
    content = content.encode() if isinstance(content, str) else content

    def made():
        Path(path).write_bytes(content)

    return made


def training(*rows: str) -> Made:
    """The training table; the cells of a row are separated by blanks."""
    return text("tables/training.tsv", "".join(row.replace(" ", "\t") + "\n" for row in rows))


def slides(*rows: str) -> Made:
    """The table of slides; the cells of a row are separated by blanks."""
    return text("tables/slides.tsv", "".join(row.replace(" ", "\t") + "\n" for row in rows))


def picture(path: str, pixels: np.ndarray, **how: object) -> Made:
    """A TIFF file of these pixels."""
    return lambda: tifffile.imwrite(path, pixels, **how)


def row(**cells: str) -> Made:
    """Other cells in the first row of the training table."""
    first = {"id": "a", "image": "raw/a.tif", "label": "raw/a_label.tif", "split": "train", **cells}
    second = {**first, "id": "b", "split": "test"}
    return training(*(" ".join(line) for line in (first, first.values(), second.values())))


def cut(path: str, size_bytes: int) -> Made:
    """Only the beginning of a file, as of a copy that was broken off."""

    def made():
        os.truncate(path, size_bytes)

    return made


def both(*made: Made) -> Made:
    """Several things at once."""

    def together():
        asked: dict = {}
        for one in made:
            asked |= one() or {}
        return asked

    return together


# -- what is asked then -------------------------------------------------------------------------


def before(arguments: Sequence[str] = ("--configfile", "small.yaml")) -> str | None:
    """What profiles/default says before Snakemake reads its command line."""
    try:
        command_line.check(arguments, Path())
    except UserError as error:
        return str(error)


def plan(overrides: tuple = (), arguments: Sequence[str] = ()) -> str | None:
    """What Snakemake's start says (workflow/rules/common.smk)."""
    try:
        settled(overrides, arguments)
    except UserError as error:
        return str(error)


def refused() -> str:
    """What stands in the table of failures of the one slide that can't be used."""
    (row,) = settled()[1].refused
    return row["reason"]


def settled(overrides: tuple = (), arguments: Sequence[str] = ()) -> tuple[dict, inputs.Inputs]:
    """The configuration and its inputs, as workflow/rules/common.smk has them."""
    values: dict = {}
    over = parse_config(overrides)
    configuration.check_files(["config.yaml", "small.yaml"])
    for path in ("config.yaml", "small.yaml"):
        configuration.merge(values, yaml.safe_load(Path(path).read_text()))
    configuration.merge(values, over)
    found = inputs.settle(values, schema, overrides=over)
    inputs.check_targets(list(arguments), values, found)
    return values, found


def schema(name: str) -> dict:
    """A schema of the workflow."""
    return yaml.safe_load((WORKFLOW / "schemas" / f"{name}.schema.yaml").read_text())


def ingest() -> str | None:
    """What rule ingest says of the first training image."""
    values, found = settled()
    row = next(iter(found.training.values()))
    names = ("id", "split", "image", "label")
    more = {key: row[key] for key in row if key not in names}
    try:
        ingest_stage.ingest(
            image=row["image"],
            label=row["label"],
            manifest="results/images/a.json",
            settings={"classes": values["classes"], **more},
            code={},
        )
    except UserError as error:
        assert not Path("results/images/a.json").exists()
        return str(error)


def index() -> str:
    """The reason in the manifest that rule index leaves of the first slide."""
    values, found = settled()
    row = next(iter(found.slides.values()))
    index_stage.index(
        slide=row["image"],
        tissue=row.get("tissue", []),
        manifest="results/slides/one/slide.json",
        settings={**{key: values[key] for key in ("index", "intensity")}, "mpp_um": None},
        code={},
    )
    manifest = json.loads(Path("results/slides/one/slide.json").read_text())
    assert manifest["status"] == "failed"
    return manifest["failure"]["reason"]


def take_model() -> str | None:
    """What rule import_model says of the model that the configuration names."""
    values, _ = settled()
    try:
        import_stage.import_model(card=values["model"], manifest="results/model.json", code={})
    except UserError as error:
        assert not Path("results/model.json").exists()
        return str(error)
