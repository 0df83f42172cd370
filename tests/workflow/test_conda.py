"""`snakemake --sdm conda`, with a stand-in for conda (stand_in_conda.py)."""

import os
import sys
from pathlib import Path

import pytest


@pytest.fixture
def conda(tmp_path, monkeypatch) -> Path:
    """The folder of an installed stand-in for conda."""
    prefix = tmp_path / "conda"
    (prefix / "bin").mkdir(parents=True)
    script = Path(__file__).with_name("stand_in_conda.py").read_text()
    (prefix / "bin" / "conda").write_text(f"#!{sys.executable}\n{script}")
    (prefix / "bin" / "conda").chmod(0o755)
    activate = 'export CONDA_PREFIX="$1" PATH="$1/bin:$PATH"\n'
    (prefix / "bin" / "activate").write_text(activate)
    monkeypatch.setenv("PATH", f"{prefix / 'bin'}:{os.environ['PATH']}")
    return prefix


def test_jobs_run_in_the_environment_that_conda_made(small_project, conda):
    wanted = ("results/images/a.json", "results/slides/one/slide.json")
    small_project.snakemake(*wanted, "--sdm", "conda")
    (environment,) = (small_project.folder / ".snakemake" / "conda").glob("*/bin")
    scripts = [line.split() for line in (conda / "ran.txt").read_text().splitlines()]
    ran = {words[0] for words in scripts if words[-1].endswith((".ingest.py", ".index.py"))}
    assert ran == {str(environment.parent)}
    assert all((small_project.folder / path).is_file() for path in wanted)


def test_all_rules_run_in_one_environment(small_project, conda):
    printed = small_project.snakemake("--sdm", "conda", "-n").stdout
    assert printed.count("will be created") == 1
    assert "envs/environment.yaml" in printed
