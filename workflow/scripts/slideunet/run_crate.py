"""A finished run as a Workflow Run RO-Crate: what went in, what came out, by which code.

The results folder is the crate: its files are described where they lie, by what the manifests say.
Files from elsewhere (slides, training images) are named by their content, ni:///sha-256;..., as RFC
6920 does, since where they lie means nothing to others.

Needs: rocrate (envs/requirements-export.txt).
"""

import base64
import json
import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rocrate.model import ContextEntity, File
from rocrate.model.entity import Entity
from rocrate.rocrate import ROCrate

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
# The profile's own terms, here so that nothing has to be looked up to read the file.
TERMS = {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}
BIOSCHEMAS = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
PAPER = "https://doi.org/10.1007/978-3-319-24574-4_28"
TYPES = {
    ".gz": "application/gzip",
    ".parquet": "application/vnd.apache.parquet",
    ".geojson": "application/geo+json",
}


@dataclass(frozen=True)
class Run:
    """What is told of a run.

    artefacts : path of each manifest below the results folder -> its content
    digests : path of each manifest -> sha256 of the manifest file itself
    names : path of a manifest -> {input: file name}, of inputs that lie outside the results
    tables : paths, below the results folder, of files that no manifest describes
    config : the whole configuration
    publication : its section: authors, license
    failures : a line for each slide that failed
    commit, versions : of the code (provenance.py)
    source : name of the folder, below the results folder, that holds a copy of the workflow
    ended : when the last artefact was made
    """

    artefacts: dict[str, dict]
    digests: dict[str, str]
    names: dict[str, dict[str, str]]
    tables: list[str]
    config: dict
    publication: dict
    failures: list[str]
    commit: str
    versions: dict[str, str]
    source: str
    ended: datetime


def write(run: Run, folder: Path) -> None:
    """Write ro-crate-metadata.json into `folder`."""
    crate = ROCrate(version="1.1")
    crate.metadata.extra_terms.update(TERMS)
    crate.name = "A run of unet-slides"
    crate.description = (
        "Slides segmented by a U-Net (Ronneberger, Fischer, Brox 2015): networks, probabilities, "
        "objects, measurements, and where they come from."
    )
    crate.license = _thing(
        crate,
        f"https://spdx.org/licenses/{run.publication['license']}",
        "CreativeWork",
        name=run.publication["license"],
    )
    workflow = _workflow(crate, run)
    agents = [_thing(crate, f"#{name}", "Person", name=name) for name in run.publication["authors"]]
    if agents:
        crate.root_dataset["author"] = agents
    results = list(_results(crate, run))
    objects = [*_inputs(crate, run), *_settings(crate, run.config)]
    action = crate.add_action(
        workflow,
        identifier="#run",
        object=objects,
        result=results,
        properties={
            "name": "Training and segmentation",
            "description": f"Run of unet-slides, commit {run.commit}",
            "endTime": run.ended.isoformat(timespec="seconds"),
            "actionStatus": "http://schema.org/"
            + ("FailedActionStatus" if run.failures else "CompletedActionStatus"),
            **({"error": "; ".join(run.failures)} if run.failures else {}),
        },
    )
    if agents:
        action["agent"] = agents
    crate.root_dataset["mentions"] = action
    crate.root_dataset["conformsTo"] = [
        _thing(crate, uri, "CreativeWork", name=name, version=uri.rsplit("/", 1)[1])
        for uri, name in PROFILES.items()
    ]
    crate.metadata.write(folder)


def content_uri(sha256: str) -> str:
    """The name of a file by its content (RFC 6920)."""
    digest = base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip("=")
    return f"ni:///sha-256;{digest}"


def _workflow(crate: ROCrate, run: Run) -> Entity:
    """The workflow, its language, the code around it and the packages that it ran with."""
    workflow = crate.add_workflow(
        dest_path=f"{run.source}/Snakefile",
        main=True,
        lang="snakemake",
        lang_version=run.versions["snakemake"],
        properties={
            "name": "unet-slides",
            "version": run.commit,
            "license": "https://spdx.org/licenses/MIT",
            "citation": {"@id": PAPER},
            "encodingFormat": "text/plain",
            "conformsTo": {"@id": BIOSCHEMAS},
        },
    )
    _thing(crate, PAPER, "ScholarlyArticle", name="U-Net: Convolutional Networks for Biomedical "
           "Image Segmentation")  # fmt: skip
    _thing(
        crate, BIOSCHEMAS, "CreativeWork", name="Bioschemas ComputationalWorkflow", version="1.0"
    )
    crate.add_dataset(dest_path=f"{run.source}/", properties={"name": "The workflow's code"})
    workflow["softwareRequirements"] = [
        _thing(
            crate, f"pkg:pypi/{name}@{version}", "SoftwareApplication",
            name=name, softwareVersion=version,
        )
        for name, version in run.versions.items()
        if name != "python" and version != "not installed"
    ] + [
        _thing(
            crate, "https://www.python.org/", "SoftwareApplication",
            name="Python", url="https://www.python.org/", softwareVersion=run.versions["python"],
        )
    ]  # fmt: skip
    return workflow


def _results(crate: ROCrate, run: Run) -> Iterator[Entity]:
    """Each artefact: its manifest, its files, and its folders (Zarr stores) as a whole."""
    for path, content in run.artefacts.items():
        told = {"name": f"manifest: {content['kind']}", "sha256": run.digests[path]}
        yield _file(crate, path, **told)
        for name in content.get("names", []):
            below = [
                entry
                for entry in content["files"]
                if entry["path"] == name or entry["path"].startswith(f"{name}/")
            ]
            inside = (Path(path).parent / name).as_posix()
            if [entry["path"] for entry in below] == [name]:
                told = {"sha256": below[0]["sha256"], "contentSize": str(below[0]["size"])}
                yield _file(crate, inside, **told)
            elif below:
                size = sum(entry["size"] for entry in below)
                told = {"contentSize": str(size), "name": f"{name}: {len(below)} files"}
                yield crate.add_dataset(dest_path=f"{inside}/", properties=told)
    for path in run.tables:
        yield _file(crate, path)


def _inputs(crate: ROCrate, run: Run) -> Iterator[Entity]:
    """Slides, and all that was read and is not among the results."""
    made = set(run.digests.values())
    for content in run.artefacts.values():
        made |= {entry["sha256"] for entry in content["files"]}
    seen = set()
    for path, content in run.artefacts.items():
        read = [
            (run.names.get(path, {}).get(key, key), {"sha256": digest})
            for key, digests in content["inputs"].items()
            for digest in (digests if isinstance(digests, list) else [digests])
        ]
        facts = content.get("facts", {})
        if content["kind"] == "index" and facts:
            size = {"contentSize": str(facts["size_bytes"])}
            read.append((facts["file"], {"sha256": facts["sha256"], **size}))
        for name, told in read:
            if told["sha256"] not in made | seen:
                seen.add(told["sha256"])
                properties = {"name": name, "encodingFormat": _type_of(name), **told}
                yield crate.add(File(crate, content_uri(told["sha256"]), properties=properties))


def _settings(crate: ROCrate, config: dict, path: str = "") -> Iterator[Entity]:
    """Each key of the configuration, such as train.steps."""
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from _settings(crate, value, f"{path}{key}.")
        else:
            told = value if isinstance(value, (str, int, float)) else json.dumps(value)
            name = f"{path}{key}"
            yield _thing(crate, f"#config/{name}", "PropertyValue", name=name, value=told)


def _file(crate: ROCrate, path: str, **told: str) -> Entity:
    properties = {"name": Path(path).name, "encodingFormat": _type_of(path), **told}
    return crate.add_file(dest_path=path, properties=properties)


def _thing(crate: ROCrate, identifier: str, kind: str, **told: object) -> Entity:
    return crate.add(ContextEntity(crate, identifier, properties={"@type": kind, **told}))


def _type_of(name: str) -> str:
    suffix = Path(name).suffix
    return TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"


def time_of(paths: list[Path]) -> datetime:
    """When the last of these files was written."""
    return datetime.fromtimestamp(max(path.stat().st_mtime for path in paths), tz=UTC)
