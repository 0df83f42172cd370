"""A training shared by two processes equals that of one with the same batch, and resumes."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

TRAIN = "results/models/main/train.json"
# SGD: AdamW divides by the gradient's size and so makes rounding differences of gradients that are
# all but zero as large as any other.
SGD = {"optimiser": "sgd", "momentum": 0.9, "learning_rate": 0.01}
STEPS = {"steps": 20, "batch": 4, "validate_every_steps": 10, "checkpoint_every_steps": 5}


def weights_of(project):
    return load_file(project.folder / "results/models/main/model.safetensors")


def history_of(project):
    lines = (project.folder / "results/models/main/history.tsv").read_text().splitlines()
    return [line.split("\t") for line in lines]


@pytest.fixture
def shared(finished_project):
    """The project, to be trained by two processes, without its model."""
    finished_project.configure(train={**SGD, **STEPS, "processes": 2}, network={"dropout": 0.0})
    (finished_project.folder / TRAIN).unlink()
    return finished_project


def test_two_processes_equal_one_with_the_same_batch(shared):
    shared.snakemake(TRAIN)
    two, table = weights_of(shared), history_of(shared)
    shared.configure(train={"processes": 1})
    shared.snakemake(TRAIN)
    one = weights_of(shared)
    assert two.keys() == one.keys()
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-5, err_msg=name)
    for row, other in zip(table[1:], history_of(shared)[1:], strict=True):
        np.testing.assert_allclose(
            [float(cell) for cell in row if cell],
            [float(cell) for cell in other if cell],
            rtol=1e-3,
        )


@pytest.mark.faults
@pytest.mark.parametrize("cut", [signal.SIGKILL, signal.SIGTERM])
def test_a_shared_training_that_was_cut_ends_with_the_same_bytes(shared, cut):
    shared.snakemake(TRAIN)
    expected = weights_of(shared)
    (shared.folder / TRAIN).unlink()
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local", "--cores", "2"]
    process = subprocess.Popen(
        [*command, TRAIN, "--configfile", "small.yaml"],
        cwd=shared.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while time.monotonic() < until and not list(
        shared.folder.glob("results/models/main/.train.work-*/checkpoint-*")
    ):
        time.sleep(0.02)
    os.killpg(process.pid, cut)  # all processes of it, as Slurm does
    process.wait(60)
    if cut == signal.SIGTERM:
        log = (shared.folder / "results/logs/train/main.log").read_text()
        assert "stopped on request" in log
        assert "Traceback" not in log
    shared.snakemake(TRAIN)
    assert "going on from step" in (shared.folder / "results/logs/train/main.log").read_text()
    found = weights_of(shared)
    assert all((found[name] == expected[name]).all() for name in expected)


def test_a_batch_without_equal_shares_is_one_line(shared):
    shared.configure(train={"batch": 3})
    done = shared.snakemake(TRAIN, check=False)
    assert done.returncode != 0
    assert "a batch of 3 has no 2 equal shares" in done.stdout
    assert "Traceback" not in done.stdout
