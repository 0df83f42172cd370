"""Each local GPU job gets a device of its own (pretended ones here)."""

import os
import signal
import subprocess
import sys
import tempfile

import pytest
from slideunet import local_gpus

CODE = """
import os, sys
from slideunet import local_gpus
local_gpus.glob = lambda pattern: ["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidia10"]
local_gpus.AGAIN_SECONDS = 0.05
taken = local_gpus.take(int(sys.argv[1]))
print(",".join(taken), os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path, project):
    """Starts a process that takes GPUs; it holds them until its input is closed."""
    running = []

    def begin(count=1, **env):
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, str(count)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path),
                 "PYTHONPATH": str(project / "workflow" / "scripts"), **env},
        )  # fmt: skip
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def said(process):
    return process.stdout.readline().split()


def test_jobs_side_by_side_get_different_devices(start):
    jobs = [start() for _ in range(3)]
    assert sorted(said(job)[1] for job in jobs) == ["0", "1", "10"]


def test_one_more_job_waits_until_a_device_is_free(start):
    first = start(2)
    assert said(first) == ["0,1", "0,1"]
    assert said(start()) == ["10", "10"]
    later = start(2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert said(later) == ["0,1", "0,1"], "a killed job's devices are free"


def test_devices_that_the_user_names(start):
    jobs = [start(CUDA_VISIBLE_DEVICES="7, GPU-8f,9") for _ in range(2)]
    assert {said(job)[1] for job in jobs} < {"7", "GPU-8f", "9"}


def test_slurm_s_choice_is_left_alone(start):
    env = {"CUDA_VISIBLE_DEVICES": "0,1", "UNET_SLIDES_SLURM_JOB": "12"}
    assert [said(start(**env))[1] for _ in range(2)] == ["0,1", "0,1"]


def test_where_there_is_no_choice_nothing_is_locked(start, tmp_path):
    assert said(start(3)) == ["0,1,10", "None"]
    assert list(tmp_path.iterdir()) == []


def test_gives_up_when_told_to(monkeypatch, tmp_path):
    monkeypatch.setattr(local_gpus, "visible_gpus", lambda: ["0", "1"])
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    assert local_gpus.take(1, give_up=lambda: True) == ["0", "1"]


@pytest.mark.parametrize(
    ("named", "count"), [(None, 2), ("0", 1), ("", 0), ("-1", 0), ("0,1,2", 3)]
)
def test_counts_what_may_be_used(monkeypatch, named, count):
    monkeypatch.setattr(local_gpus, "glob", lambda pattern: ["/dev/nvidia1", "/dev/nvidia0"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert local_gpus.count_gpus() == count


def test_no_gpu_here(monkeypatch):
    monkeypatch.setattr(local_gpus, "glob", lambda pattern: [])
    assert local_gpus.count_gpus() == 0
    assert local_gpus.take(1) == []
