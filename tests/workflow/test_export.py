"""A trained network goes out through Snakemake, and comes in again as a model made elsewhere."""

import zipfile

import pytest
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
    for known in ({}, {"model": "config.yaml"}):
        small_project.configure(**known)
        done = small_project.snakemake("-n", "results/export/mian.json", check=False)
        assert done.returncode != 0
        assert "No rule to produce results/export/mian.json" in done.stdout
        assert "Traceback" not in done.stdout
