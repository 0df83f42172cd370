"""After the fact: every artefact against its manifest, every slide against what was indexed.

Snakemake sees manifests only, so that damage of the data behind them goes unnoticed until it is
read. Here all bytes are read.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slideunet.errors import SlideError, UserError
from slideunet.readers.files import identity
from slideunet.store import find_damage, read_manifest

# Where manifests lie below the results folder. Other JSON files beside them (the model card, a
# slide's source and timing) describe or measure, nothing is checked against them.
MANIFESTS = (
    "demo/demo.json",
    "images/*.json",
    "weights/*.json",
    "models/*/train.json",
    "models/imported/import_model.json",
    "evaluation/*.json",
    "export/*.json",
    "crate.json",
    "slides/*/*.json",
)
NO_MANIFESTS = ("source.json", "segmentation.timing.json")


@dataclass(frozen=True)
class Damage:
    """What is wrong with one artefact: its manifest, and a line for each damaged file."""

    manifest: Path
    lines: list[str]


def manifests(results: Path) -> Iterator[Path]:
    """All manifests of a results folder, in order. UserError where there is no such folder."""
    if not results.is_dir():
        raise UserError(f"{results}: no such folder: name the configuration's `results`")
    for pattern in MANIFESTS:
        yield from (p for p in sorted(results.glob(pattern)) if p.name not in NO_MANIFESTS)


def verify(manifest: Path) -> list[str]:
    """What is damaged of one artefact, a line each; nothing of one that failed."""
    try:
        content = read_manifest(manifest)
        damage = find_damage(manifest)
    except UserError as error:
        return [str(error)]
    except (KeyError, TypeError):
        return [f"{manifest}: its list of files is damaged"]
    if content["kind"] == "index" and content["status"] == "done":
        damage += _source(manifest, content)
    return damage


def _source(manifest: Path, content: dict) -> list[str]:
    """Whether the slide's file still is what was indexed."""
    try:
        path = json.loads(manifest.with_name("source.json").read_bytes())["path"]
    except (OSError, ValueError, KeyError):
        return [f"{manifest.with_name('source.json')}: missing or damaged"]
    try:
        now = identity(path)
    except (OSError, SlideError) as error:
        return [f"{path}: {error}"]
    if now["sha256"] != content["facts"]["sha256"]:
        return [f"{path}: the slide is not the one that was indexed (checksum differs)"]
    return []


def verify_all(results: Path, repair: bool = False) -> tuple[int, list[Damage]]:
    """Check all artefacts: how many there are, and the damaged ones.

    repair : remove the manifests of the damaged ones, so that the next call of Snakemake makes
        them anew.
    """
    checked, damaged = 0, []
    for manifest in manifests(results):
        checked += 1
        lines = verify(manifest)
        if lines:
            damaged.append(Damage(manifest, lines))
    if repair:
        for damage in damaged:
            damage.manifest.unlink()
    return checked, damaged
