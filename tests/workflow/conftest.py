"""Small projects, fresh and finished."""

import shutil
from pathlib import Path

import pytest
from small_project import Project, make_project


@pytest.fixture
def small_project(project, tmp_path) -> Project:
    """A fresh small project: nothing has run in it."""
    return make_project(project, tmp_path / "project")


@pytest.fixture(scope="session")
def finished(project, tmp_path_factory) -> Path:
    """A small project in which everything has run; copy it, leave it as it is."""
    made = make_project(project, tmp_path_factory.mktemp("finished") / "project")
    made.snakemake()
    return made.folder


@pytest.fixture
def finished_project(finished, tmp_path) -> Project:
    """A copy of the finished project, with its times, to change and run again."""
    shutil.copytree(finished, tmp_path / "finished", copy_function=shutil.copy2)
    return Project(tmp_path / "finished")
