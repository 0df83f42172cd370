"""A run is described as it was: what came from elsewhere, what was made, what failed, by what."""

import hashlib
import json
from datetime import UTC, datetime

import pytest

DAY = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def manifest(kind, files=(), inputs=None, **more):
    entries = [{"path": path, "size": 10, "sha256": digest(path)} for path in files]
    names = sorted({path.split("/")[0] for path in files})
    return {"kind": kind, "files": entries, "names": names, "inputs": inputs or {}, **more}


def described(folder, failures=(), authors=("Ada Lovelace",)):
    """@id -> entity, of a run with two training images of equal labels and two slides."""
    run_crate = pytest.importorskip(
        "slideunet.run_crate", reason="needs envs/requirements-export.txt"
    )
    slide = {"file": "one.svs", "sha256": digest("one.svs"), "size_bytes": 77}
    artefacts = {
        "images/a.json": manifest(
            "ingest", ["a.zarr/zarr.json", "a.zarr/c/0"],
            {"image": digest("a"), "label": digest("same")},
        ),
        "images/b.json": manifest(
            "ingest", ["b.zarr/zarr.json"], {"image": digest("b"), "label": digest("same")}
        ),
        "models/main/train.json": manifest(
            "train", ["model.safetensors"],
            {"images": [digest("images/a.json"), digest("images/b.json")]},
        ),
        "slides/one/slide.json": manifest("index", ["thumbnail.png"], facts=slide),
        "slides/two/slide.json": {"kind": "index", "files": [], "inputs": {}, "status": "failed"},
    }  # fmt: skip
    run = run_crate.Run(
        artefacts=artefacts,
        digests={path: digest(path) for path in artefacts},
        names={"images/a.json": {"image": "a.tif", "label": "a_label.tif"}},
        tables=["archive.tsv"],
        config={"train": {"steps": 60, "start_from": ""}, "classes": ["background", "nucleus"]},
        publication={"authors": list(authors), "license": "CC-BY-4.0"},
        failures=list(failures),
        commit="c0ffee",
        versions={
            "python": "3.12.1",
            "snakemake": "9.30",
            "torch": "2.13.0",
            "dask": "not installed",
        },
        source="source",
        ended=DAY,
    )
    run_crate.write(run, folder)
    graph = json.loads((folder / "ro-crate-metadata.json").read_bytes())["@graph"]
    found = {entity["@id"]: entity for entity in graph}
    assert len(found) == len(graph)
    return found


def ids(references):
    references = references if isinstance(references, list) else [references]
    return [reference["@id"] for reference in references]


def test_inputs_are_what_was_not_made_here(tmp_path):
    found = described(tmp_path)
    read = [found[name] for name in ids(found["#run"]["object"]) if name.startswith("ni:")]
    assert [(each["name"], each["sha256"]) for each in read] == [
        ("a.tif", digest("a")),
        ("a_label.tif", digest("same")),  # the other image's label too: told once
        ("image", digest("b")),  # whose name nobody gave
        ("one.svs", digest("one.svs")),
    ]
    assert read[-1]["contentSize"] == "77"


def test_a_files_name_is_that_of_rfc_6920():
    run_crate = pytest.importorskip("slideunet.run_crate")
    # section 8.1 of the RFC: "Hello World!"
    assert run_crate.content_uri(digest("Hello World!")) == (
        "ni:///sha-256;f4OxZX_x_FO5LcGBSKHWXfwtSx-j1ncoSt3SABJtkGk"
    )


def test_results_are_the_artefacts_with_their_sums(tmp_path):
    found = described(tmp_path)
    made = ids(found["#run"]["result"])
    assert made[:2] == ["images/a.json", "images/a.zarr/"]
    assert "slides/one/thumbnail.png" in made and "slides/two/slide.json" in made
    assert found["images/a.zarr/"]["contentSize"] == "20"
    weights = found["models/main/model.safetensors"]
    assert (weights["sha256"], weights["@type"]) == (digest("model.safetensors"), "File")
    assert set(made) <= set(ids(found["./"]["hasPart"]))
    assert made[-1] == "archive.tsv"


def test_settings_versions_and_licence_are_told(tmp_path):
    found = described(tmp_path)
    assert found["#config/train.steps"]["value"] == 60
    assert json.loads(found["#config/classes"]["value"]) == ["background", "nucleus"]
    assert set(ids(found["#run"]["object"])) > {"#config/train.steps", "#config/train.start_from"}
    workflow = found[ids(found["./"]["mainEntity"])[0]]
    assert workflow["version"] == "c0ffee"
    language = found[ids(workflow["programmingLanguage"])[0]]
    assert (language["name"], language["version"]) == ("Snakemake", "9.30")
    packages = [found[name] for name in ids(workflow["softwareRequirements"])]
    assert {each["name"]: each["softwareVersion"] for each in packages} == {
        "snakemake": "9.30", "torch": "2.13.0", "Python": "3.12.1",
    }  # fmt: skip
    assert ids(found["./"]["license"]) == ["https://spdx.org/licenses/CC-BY-4.0"]
    assert found[ids(found["#run"]["agent"])[0]]["name"] == "Ada Lovelace"
    assert found["#run"]["endTime"] == "2026-05-04T03:02:01+00:00"


def test_a_run_with_failures_says_so(tmp_path):
    whole = described(tmp_path)["#run"]
    assert whole["actionStatus"].endswith("/CompletedActionStatus") and "error" not in whole
    part = described(tmp_path, failures=["two: index: not a slide"], authors=())["#run"]
    assert part["actionStatus"].endswith("/FailedActionStatus")
    assert part["error"] == "two: index: not a slide" and "agent" not in part
