"""What leaves, through Snakemake: a network, which comes in again, and a described run."""

import hashlib
import zipfile

import pytest
from crate_rules import broken_rules
from slideunet.stages.export import NEEDED


def test_a_network_goes_out_and_comes_in_again(finished_project):
    for name in NEEDED:
        pytest.importorskip(name, reason="needs envs/requirements-export.txt")
    home = finished_project
    home.configure(publication={"authors": ["Ada Lovelace"], "license": "CC-BY-4.0"})
    assert home.planned() == {}, "whose networks they are changes none"
    home.snakemake("results/export/main.json")
    assert home.planned("results/export/main.json") == {}
    with zipfile.ZipFile(home.folder / "results" / "export" / "main.zip") as package:
        assert b"license: CC-BY-4.0" in package.read("rdf.yaml")
        package.extractall(home.folder / "elsewhere")
    home.configure(model="elsewhere/model.json")
    home.snakemake("results/models/imported/import_model.json")
    folder = home.folder / "results" / "models"
    weights = [folder / name / "model.safetensors" for name in ("main", "imported")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_network_that_is_not_trained_here_is_one_line(small_project):
    (small_project.folder / "model.json").write_text("{}")
    for known in ({}, {"model": "model.json"}):
        small_project.configure(**known)
        done = small_project.snakemake("-n", "results/export/mian.json", check=False)
        assert done.returncode != 0
        assert "No rule to produce results/export/mian.json" in done.stdout
        assert "Traceback" not in done.stdout


def test_a_finished_run_is_a_valid_crate(finished_project):
    home = finished_project
    broken = broken_rules(home.folder)  # nothing there yet: the rules do say no
    assert broken
    home.snakemake("results/crate.json")
    results = home.folder / "results"
    assert broken_rules(results) == []
    graph = home.read("results/ro-crate-metadata.json")["@graph"]
    found = {entity["@id"]: entity for entity in graph}
    known = 0
    for name, entity in found.items():
        if "sha256" in entity and not name.startswith("ni:"):
            known += 1
            bytes_ = (results / name).read_bytes()
            assert entity["sha256"] == hashlib.sha256(bytes_).hexdigest(), name
    assert known >= 11  # the manifests at least
    inputs = {entity["name"]: entity for name, entity in found.items() if name.startswith("ni:")}
    raw = home.folder / "raw"
    assert set(inputs) == {
        "a.tif", "a_label.tif", "b.tif", "b_label.tif", "one.ome.tif", "one_label.tif",
    }  # fmt: skip
    for name, entity in inputs.items():
        assert entity["sha256"] == hashlib.sha256((raw / name).read_bytes()).hexdigest(), name
    assert (results / "source" / "Snakefile").read_text() == (home.folder / "Snakefile").read_text()
    assert str(home.folder) not in (results / "ro-crate-metadata.json").read_text()
    assert home.planned("results/crate.json") == {}
    # a copy whose code is gone is no whole crate any more
    (results / "source" / "Snakefile").unlink()
    assert broken_rules(results)
