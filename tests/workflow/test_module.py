"""The workflow as a module of another one: from a folder, and from a repository on a code host.

The code host is a stand-in: git is told to find https://github.com/ in a folder of this machine.
"""

import os
import re
import subprocess
import sys

import pytest
import yaml
from small_project import SMALL, copy_workflow, make_project

OUTER = """
configfile: "outer.yaml"

module slides:
    snakefile: {snakefile}
    config: config["slides"]

use rule * from slides as slides_*

rule counted:
    default_target: True
    input: "segmented/slides/one/objects.json"
    output: "counted.txt"
    run:
        import json
        from pathlib import Path
        Path(output[0]).write_text(str(json.loads(Path(input[0]).read_text())["facts"]["objects"]))
"""


@pytest.fixture
def outer(project, tmp_path):
    """Another workflow's folder with images and tables, and nothing of this one in it."""
    made = make_project(project, tmp_path / "made").folder
    folder = tmp_path / "outer"
    folder.mkdir()
    for name in ("raw", "tables"):
        (made / name).rename(folder / name)
    # not complete: what is left out has the defaults of config.yaml
    config = {**SMALL, "results": "segmented"}
    config["models"] = {"one": {"train_on": ["train"], "test_on": ["test"]}}
    config["segment"] = {**SMALL["segment"], "models": ["one"]}
    (folder / "outer.yaml").write_text(yaml.safe_dump({"slides": config}))
    return folder


def snakemake(folder, *arguments, **more):
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache"), **more},
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_folder_as_a_module(project, outer):
    inner = copy_workflow(project, outer.parent / "elsewhere" / "unet-slides").folder
    (outer / "Snakefile").write_text(OUTER.format(snakefile=f'"{inner}/Snakefile"'))
    snakemake(outer)
    assert int((outer / "counted.txt").read_text()) > 50
    assert (outer / "segmented/slides/one/objects.geojson.gz").is_file()
    models = sorted(path.name for path in (outer / "segmented" / "models").iterdir())
    assert models == ["one"]
    assert "Nothing to be done" in snakemake(outer)


def git(folder, *arguments):
    names = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *names, *arguments], cwd=folder, check=True, capture_output=True)


def test_a_repository_on_a_code_host_as_a_module(project, outer, tmp_path):
    hosted = copy_workflow(project, tmp_path / "host" / "lab" / "unet-slides").folder
    git(hosted, "init")
    git(hosted, "add", ".")
    git(hosted, "commit", "-m", "all")
    git(hosted, "tag", "v1")
    where = 'github("lab/unet-slides", path="Snakefile", tag="v1")'
    (outer / "Snakefile").write_text(OUTER.format(snakefile=where))
    host = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{tmp_path}/host/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
    }
    wanted = ("segmented/images/a.json", "segmented/weights/a.json")
    snakemake(outer, *wanted, **host)
    assert all((outer / path).is_file() for path in wanted)
    jobs = dict(re.findall(r"^(slides_\w+) +(\d+)$", snakemake(outer, "-n", **host), re.M))
    # image b, which the model is tested on, is left; the rest of the night is planned
    assert (jobs["slides_ingest"], jobs["slides_train"], jobs["slides_objects"]) == ("1", "1", "1")
