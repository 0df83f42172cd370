"""What is checked before the first job of a run on Slurm, without a Slurm."""

import json
import os
import stat
import subprocess
import sys

import pytest
from slideunet import slurm_start
from slideunet.errors import UserError

REQUESTS = {
    "index": {"threads": 1, "mem_mb": 2500, "runtime": 30},
    "train": {"threads": 4, "slurm_partition": "gpu", "gpu": 2, "gpu_model": "a100"},
    "objects": {"threads": 1, "mem_mb": 2500, "runtime": 30},
}


def test_arguments_are_those_of_sbatch():
    assert slurm_start.submit_arguments(REQUESTS["train"]) == [
        "--cpus-per-task=4",
        "--partition=gpu",
        "--gpus=a100:2",
    ]


def test_values_not_known_before_the_job_runs_are_left_out():
    arguments = slurm_start.submit_arguments({"threads": 1, "mem_mb": "<TBD>", "runtime": 5})
    assert arguments == ["--cpus-per-task=1", "--time=5"]


def test_equal_requests_are_shown_once():
    shown = []
    slurm_start.check_requests(REQUESTS, test=lambda arguments: shown.append(arguments) or "")
    assert len(shown) == 2


def test_a_refusal_names_rule_words_and_file():
    with pytest.raises(UserError) as error:
        slurm_start.check_requests(
            REQUESTS, test=lambda arguments: "Invalid account or account/partition combination"
        )
    line = str(error.value)
    assert "rule index" in line and "Invalid account" in line
    assert "slurm_account" in line and "profiles/slurm/config.yaml" in line


@pytest.mark.parametrize(
    "words",
    [
        "Required node not available (down, drained or reserved)",
        "Required partition not available (inactive or drain)",
        "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
    ],
)
def test_what_passes_by_itself_stops_nothing(words):
    slurm_start.check_requests(REQUESTS, test=lambda arguments: words)


def test_an_absent_controller_is_said():
    with pytest.raises(UserError, match="does not answer"):
        slurm_start.check_requests(
            REQUESTS,
            test=lambda a: "Unable to contact slurm controller (connect failure)",
        )


@pytest.fixture
def slurm_commands(tmp_path, monkeypatch):
    """squeue and scancel that keep a list of jobs in a file: lines `id name`."""
    jobs = tmp_path / "jobs"
    jobs.write_text("")
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {
        "squeue": f'name=${{3#--name=}}; grep " $name$" {jobs} | cut -d" " -f1; true',
        "scancel": f'sed -i "/ ${{1#--name=}}$/d" {jobs}',
    }
    for name, body in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return jobs


def note(folder, run, **changes):
    slurm_start.record_run(folder, run)
    path = folder / f"{run}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


def test_jobs_of_a_killed_run_are_cancelled(tmp_path, slurm_commands):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    path = note(tmp_path / "runs", "dead", pid=gone.pid)
    slurm_commands.write_text("7 dead\n8 other\n")
    assert slurm_start.cancel_orphans(tmp_path / "runs") == [
        "Cancelled 1 jobs that a killed Snakemake had left behind."
    ]
    assert slurm_commands.read_text() == "8 other\n"
    assert not path.exists()


def test_a_reused_process_id_is_not_the_same_process(tmp_path, slurm_commands):
    note(tmp_path / "runs", "dead", pid=os.getpid(), started="1")
    slurm_commands.write_text("7 dead\n")
    slurm_start.cancel_orphans(tmp_path / "runs")
    assert slurm_commands.read_text() == ""


def test_a_run_that_lives_keeps_its_jobs(tmp_path, slurm_commands):
    path = note(tmp_path / "runs", "alive")
    slurm_commands.write_text("7 alive\n")
    assert slurm_start.cancel_orphans(tmp_path / "runs") == []
    assert slurm_commands.read_text() == "7 alive\n"
    assert path.exists()


def test_a_run_of_another_host_is_told_not_touched(tmp_path, slurm_commands):
    path = note(tmp_path / "runs", "far", host="another")
    slurm_commands.write_text("7 far\n")
    assert "scancel --name=far" in slurm_start.cancel_orphans(tmp_path / "runs")[0]
    assert slurm_commands.read_text() == "7 far\n"
    slurm_commands.write_text("")
    assert slurm_start.cancel_orphans(tmp_path / "runs") == []
    assert not path.exists()
