"""A log that can't be written: its disk is full, and the job's words come out all the same."""

import os
import subprocess
import sys

import pytest

FULL = "/dev/full"  # each write to it says that there is no space
pytestmark = pytest.mark.skipif(not os.path.exists(FULL), reason="no /dev/full here")


@pytest.fixture
def run(project, tmp_path):
    """Runs lines under `job` with this log; what came of it."""

    def start(body: str, log: str = FULL, before: str = ""):
        code = f"{before}\nfrom slideunet.job import job\nwith job(log_file={log!r}):\n"
        code += "".join(f"    {line}\n" for line in body.splitlines())
        return subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, check=False, capture_output=True,
            text=True, env={**os.environ, "PYTHONPATH": str(project / "workflow" / "scripts")},
        )  # fmt: skip

    return start


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("UserError('a mistake')", "unet-slides: a mistake\n"),
        ("OSError(28, 'No space left', 'results/a')", "unet-slides: results/a: no space left"),
        ("Stopped('saved')", "unet-slides: stopped on request"),
    ],
)
def test_the_line_comes_out_where_snakemake_speaks(run, error, line):
    imports = "from slideunet.errors import UserError\nfrom slideunet.job import Stopped"
    done = run(f"{imports}\nraise {error}")
    assert done.returncode == 1
    assert line in done.stderr and "Traceback" not in done.stderr


def test_the_work_goes_on(run, tmp_path):
    """Its messages come out too, none as a traceback of logging, and its status stays 0."""
    done = run(
        "import logging, sys, warnings\n"
        "for number in range(2000):\n"
        "    logging.getLogger('unet-slides').info('shard %d of 2000', number)\n"
        "print('printed')\n"
        "warnings.warn('warned')\n"
        "open('done', 'w').close()\n"
    )
    assert (tmp_path / "done").exists() and done.returncode == 0
    assert "Logging error" not in done.stderr and "Traceback" not in done.stderr
    assert "INFO shard 1999 of 2000\nprinted\n" in done.stderr and "warned" in done.stderr


def test_a_fault_of_the_program_is_not_lost(run):
    done = run("raise RuntimeError('a library that meets a full disk')")
    assert done.returncode == 1
    assert "RuntimeError: a library that meets a full disk" in done.stderr


def test_a_line_that_is_cut_is_said_as_a_whole(run, tmp_path):
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))"
    done = run("print('more than the ten bytes that have room')", "log", limit)
    assert (tmp_path / "log").read_text() == "more than "
    assert done.stderr == "more than the ten bytes that have room\n" and done.returncode == 0


def test_with_room_all_is_in_the_log_and_in_order(run, tmp_path):
    done = run(
        "import os, sys\nprint('first')\nos.system('echo second')\nprint('th\\udcffird')\n"
        "print('fourth', file=sys.stderr)",
        "logs/log",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "logs/log").read_text() == "first\nsecond\nth\\udcffird\nfourth\n"
