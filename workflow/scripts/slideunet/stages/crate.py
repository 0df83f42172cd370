"""A finished run, described for others: a Workflow Run RO-Crate."""

import csv
import shutil
from importlib.util import find_spec
from pathlib import Path

from slideunet import provenance
from slideunet.errors import UserError
from slideunet.manifest import read_manifest, sha256_of_file
from slideunet.store import Work, make

METADATA, SOURCE = "ro-crate-metadata.json", "source"
# What the workflow is made of; of its results and its tests nothing.
PARTS = ("Snakefile", "config.yaml", "workflow", "profiles", "envs", "LICENSE", "CITATION.cff")
TABLES = ("archive.tsv", "failures.tsv", "timing.tsv", "morning.html", "verdict.txt",
          "evaluation/summary.tsv", "evaluation/groups.tsv")  # fmt: skip


def crate(
    *,
    artefacts: list[str],
    tables: list[str],
    names: dict[str, dict[str, str]],
    project: str,
    config: dict,
    manifest: str,
    settings: dict,
    code: dict,
) -> None:
    """Make results/crate.json (the manifest), ro-crate-metadata.json and source/ beside it.

    artefacts : all manifests of the run
    tables : further files, which say how the run ended; failures.tsv among them
    names : path of a manifest below the results folder -> {input: file name}
    project : the workflow's folder, which is copied to source/
    config : the whole configuration
    settings : section `publication`: authors, license
    ro-crate-metadata.json : not listed in the manifest, since it names times

    Raises UserError where the package rocrate is missing.
    """
    if find_spec("rocrate") is None:
        raise UserError(
            "crate needs rocrate, not installed here: call `make crate`, or "
            "pip install -r envs/requirements-export.txt"
        )
    from slideunet import run_crate

    results = Path(manifest).parent

    def build(work: Work) -> tuple[list[str], dict]:
        copy_workflow(Path(project), work.folder / SOURCE)
        paths = {Path(path).relative_to(results).as_posix(): Path(path) for path in artefacts}
        run = run_crate.Run(
            artefacts={path: read_manifest(file) for path, file in paths.items()},
            digests={path: sha256_of_file(file) for path, file in paths.items()},
            names=names,
            tables=[name for name in TABLES if (results / name).is_file()],
            config=config,
            publication=settings["publication"],
            failures=failures(results / "failures.tsv"),
            commit=provenance.commit(Path(project)),
            versions=provenance.versions(),
            source=SOURCE,
            ended=run_crate.time_of([Path(path) for path in (*artefacts, *tables)]),
        )
        run_crate.write(run, work.folder)
        work.unlisted.append(METADATA)
        return [SOURCE], {"artefacts": len(paths), "failed": len(run.failures)}

    inputs = {"artefacts": artefacts, "tables": tables}
    make(manifest, build, kind="crate", settings=settings, code=code, inputs=inputs)


def copy_workflow(project: Path, folder: Path) -> None:
    """The workflow as it ran, without what Python compiled."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for part in PARTS:
        if (project / part).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(project / part, folder / part, ignore=ignore)
        elif (project / part).exists():
            shutil.copy(project / part, folder / part)


def failures(table: Path) -> list[str]:
    """A line for each slide that failed."""
    with open(table, newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [f"{row['slide']}: {row['stage']}: {row['reason']}" for row in rows]
