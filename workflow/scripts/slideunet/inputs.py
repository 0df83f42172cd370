"""All that a configuration names, settled before the first job: tables read, paths looked for.

Imported by the Snakefile side: no numpy, no torch.
"""

import difflib
import os
import re
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path

from slideunet import configuration, settings, slide_folder, tables
from slideunet.errors import UserError

# Below the results folder: what the next part of a target's path names.
FOLDERS = {
    "images": "training image",
    "weights": "training image",
    "models": "model",
    "evaluation": "model",
    "slides": "slide",
}
NO_NAMES = {"summary", "groups", "unlabelled", "imported"}


@dataclass(frozen=True)
class Inputs:
    """id -> row of each table, and the slides that can't be used: {slide, stage, reason}."""

    training: dict[str, dict]
    slides: dict[str, dict]
    refused: list[dict]
    unlabelled: dict[str, dict]


def settle(
    config: dict,
    schema_of: Callable[[str], dict],
    made: Container[str] = (),
    look: bool = True,
    overrides: dict | None = None,
) -> Inputs:
    """Check `config` and read the tables that it names.

    schema_of : name -> schema of workflow/schemas
    made : paths that a rule makes: they need not exist yet
    look : whether the slides themselves are looked at
    overrides : what of `config` came by --config; its values are brought to the schema's types

    Raises UserError, one line, for the first mistake; a bad slide is `refused` instead.
    """
    configuration.read_overrides(config, overrides or {}, schema_of("config"))
    settings.check_config(config, schema_of("config"))
    check_results(config["results"])
    training, slides, refused, unlabelled = {}, {}, [], {}
    if not config["model"]:
        training = tables.read_training(config["training"], schema_of("training"), made)
    if config["slides"]:
        schema = schema_of("slides")
        slides, refused = slide_folder.read_slides(config["slides"], schema, made, look=look)
    if config["unlabelled"]:
        unlabelled = tables.read_training(config["unlabelled"], schema_of("unlabelled"))
    settings.check_splits(config, training)
    return Inputs(training, slides, refused, unlabelled)


def check_results(results: str) -> None:
    """Raise UserError where the results folder can't be one."""
    if results.startswith(("~", "$")):
        raise UserError(
            f"config: results: {results!r}: ~ and variables are not put in here: write the path out"
        )
    there = next((p for p in (Path(results), *Path(results).parents) if os.path.lexists(p)), None)
    if there is not None and not os.path.isdir(there):
        raise UserError(f"config: results: {results!r}: {there} is no folder: give another path")


def check_targets(arguments: list[str], config: dict, inputs: Inputs) -> None:
    """Raise UserError for a file asked for whose model, slide or image the configuration lacks.

    arguments : Snakemake's command line, which knows its targets only after the rules are read
    """
    pattern = re.compile(re.escape(config["results"]) + r"/(\w+)/([A-Za-z0-9_-]+)[/.]")
    if not any(map(pattern.match, arguments)):
        return
    known = {
        "training image": (list(inputs.training), config["training"]),
        "model": (list(settings.models_of(config)), "config: models"),
        "slide": (list(inputs.slides), f"config: slides: {config['slides'] or 'none'}"),
    }
    from snakemake.cli import get_argument_parser

    for target in get_argument_parser().parse_known_args(arguments)[0].targets or []:
        found = pattern.match(target)
        if found is None or found[1] not in FOLDERS or found[2] in NO_NAMES:
            continue
        kind = FOLDERS[found[1]]
        names, where = known[kind]
        for row in inputs.refused if kind == "slide" else ():
            if row["slide"] == found[2]:
                raise UserError(f"{target}: {row['reason']}")
        if found[2] not in names:
            raise UserError(f"{target}: no {kind} {found[2]!r}: {_hint(found[2], names, where)}")


def _hint(name: str, names: list[str], where: str) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"there are {listed or 'none'} ({where})"
