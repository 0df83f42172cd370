"""A job's way with Slurm, without a Slurm."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from slideunet.slurm_job import seconds_of

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"

JOB = """
import sys, time
from slideunet.job import Stopped, job, stop_requested
with job(log_file=sys.argv[1]):
    for _ in range(600):
        if stop_requested():
            raise Stopped("saved")
        time.sleep(0.05)
"""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4:59\n", 299),
        ("1:00:00", 3600),
        ("2-01:00:01", 176401),
        ("UNLIMITED", None),
        ("INVALID", None),
        ("", None),
    ],
)
def test_times_as_slurm_prints_them(text, seconds):
    assert seconds_of(text) == seconds


@pytest.fixture
def slurm_commands(tmp_path):
    """squeue says that a second is left; scontrol notes what it was asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in (("squeue", "echo 0:01"), ("scontrol", f'echo "$@" > {tmp_path}/asked')):
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(stat.S_IRWXU)
    return f"{folder}:{os.environ['PATH']}"


def run_job(tmp_path, code=JOB, **env):
    """Start JOB, or other code, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "log")],
        env={**os.environ, "PYTHONPATH": str(SCRIPTS), **env},
        start_new_session=True,
    )


def test_the_limit_is_told_and_the_job_goes_back(tmp_path, slurm_commands):
    process = run_job(tmp_path, PATH=slurm_commands, UNET_SLIDES_SLURM_JOB="42")
    assert process.wait(30) == -signal.SIGKILL, "it must end without a word to its parents"
    assert (tmp_path / "asked").read_text() == "requeue 42\n"
    assert "the time limit is near" in (tmp_path / "log").read_text()


def test_a_job_that_went_back_a_hundred_times_fails(tmp_path, slurm_commands):
    process = run_job(
        tmp_path, PATH=slurm_commands, UNET_SLIDES_SLURM_JOB="42", SLURM_RESTART_COUNT="100"
    )
    process.wait(30)
    assert not (tmp_path / "asked").exists()


def test_who_cancels_a_job_does_not_get_it_back(tmp_path, slurm_commands):
    folder = slurm_commands.partition(":")[0]
    (Path(folder) / "squeue").write_text("#!/bin/sh\necho 1:00:00\n")
    process = run_job(tmp_path, PATH=slurm_commands, UNET_SLIDES_SLURM_JOB="42")
    _when_started(tmp_path, process)
    process.terminate()
    assert process.wait(30) == -signal.SIGKILL
    assert not (tmp_path / "asked").exists()


def test_a_cancelled_job_that_is_through_ends_quietly_too(tmp_path, slurm_commands):
    """The Snakemake around it would else wait for outputs, and remove those of the next attempt."""
    code = JOB.replace('raise Stopped("saved")', "break")
    folder = slurm_commands.partition(":")[0]
    (Path(folder) / "squeue").write_text("#!/bin/sh\necho 1:00:00\n")
    process = run_job(tmp_path, code, PATH=slurm_commands, UNET_SLIDES_SLURM_JOB="42")
    _when_started(tmp_path, process)
    process.terminate()
    assert process.wait(30) == -signal.SIGKILL


def test_outside_a_submitted_job_the_shell_around_it_lives(tmp_path, slurm_commands):
    """SLURM_JOB_ID alone may be an interactive session."""
    process = run_job(tmp_path, PATH=slurm_commands, SLURM_JOB_ID="42")
    _when_started(tmp_path, process)
    process.terminate()
    assert process.wait(30) == 1
    assert not (tmp_path / "asked").exists()


INDEX = """
import sys
from slideunet.job import job
from slideunet.stages.index import index
limits = {"mem_mb": 900, "seconds": 60}
with job(log_file=sys.argv[1]):
    folder = sys.argv[1].removesuffix("log")
    index(slide=folder + "a.tif", tissue=[], manifest=folder + "out/slide.json",
          settings={"index": limits}, code={})
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
def test_a_job_that_indexes_leaves_at_once_when_all_its_processes_are_told(
    tmp_path, slurm_commands, signum
):
    (Path(slurm_commands.partition(":")[0]) / "squeue").write_text("#!/bin/sh\necho 1:00:00\n")
    (tmp_path / "a.tif").touch()
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\nif 'slideunet.guard' in sys.orig_argv:\n"
        f"    open({str(tmp_path / 'begun')!r}, 'w').close()\n    time.sleep(60)\n"
    )
    process = run_job(
        tmp_path, INDEX, PATH=slurm_commands, UNET_SLIDES_SLURM_JOB="42",
        PYTHONPATH=f"{SCRIPTS}:{tmp_path}",
    )  # fmt: skip
    for _ in range(600):
        if (tmp_path / "begun").exists():
            break
        time.sleep(0.05)
    os.killpg(process.pid, signum)
    asked = time.monotonic()
    assert process.wait(30) == -signal.SIGKILL, (tmp_path / "log").read_text()
    assert time.monotonic() - asked < 5
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert (tmp_path / "asked").exists() == (signum == signal.SIGUSR1)
    assert not (tmp_path / "out" / "slide.json").exists()


def _when_started(tmp_path, process):
    """Wait until the job has put its signal handlers in place."""
    for _ in range(2000):
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
        if int(caught.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1:
            return
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("the job did not start")
