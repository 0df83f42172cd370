"""Slides that break their reader cost a child process, and end in one line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import slidefiles
from slideunet import guard, slides
from slideunet.errors import SlideError
from slideunet.guard import index_slide_guarded

SETTINGS = {
    "index": {"tissue": "auto", "thumbnail_px": 128},
    "intensity": {"low_percentile": 1, "high_percentile": 99.8},
    "mpp_um": None,
}


@pytest.fixture
def slide(tmp_path):
    path = tmp_path / "a.tif"
    slidefiles.write_pyramid(path, slidefiles.picture(200, 300), levels=2, compression="zlib")
    return path


def run(slide, seconds=60, mem_mb=1000, outlines=None):
    folder = slide.parent / "out"
    folder.mkdir(exist_ok=True)
    return index_slide_guarded(slide, SETTINGS, folder, outlines, mem_mb=mem_mb, seconds=seconds)


@pytest.fixture
def child_that(tmp_path, monkeypatch):
    """Makes the child do something else than index the slide."""

    def make(code):
        lines = "\n".join(f"    {line}" for line in code.splitlines())
        (tmp_path / "sitecustomize.py").write_text(
            "import os, signal, time\nimport slideunet.slides as slides\n"
            f"def index_slide(*_):\n{lines}\nslides.index_slide = index_slide\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return make


def test_the_childs_facts_and_files_are_those_of_index_slide(slide, tmp_path):
    facts = run(slide)
    (tmp_path / "here").mkdir()
    assert facts == slides.index_slide(slide, SETTINGS, tmp_path / "here")
    for name in slides.FILES:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_a_child_whose_parent_was_killed_at_once_does_nothing(slide, tmp_path):
    """It was not tied to its parent yet; the folder may be another job's by now."""
    (tmp_path / "out").mkdir()
    request = {
        "path": str(slide), "settings": SETTINGS, "folder": str(tmp_path / "out"),
        "tissue_geojson": None, "mem_bytes": 1 << 30, "cpu_seconds": 60, "parent": 1,
    }  # fmt: skip
    command = [sys.executable, "-m", "slideunet.guard", "1"]
    text = json.dumps(request).encode()
    child = subprocess.run(command, check=False, input=text, env=guard._environment())
    assert child.returncode == 1
    assert not any((tmp_path / "out").iterdir())


def test_a_folder_that_another_job_took_over_is_not_made_anew(slide, tmp_path):
    with pytest.raises(OSError, match="thumbnail"):
        index_slide_guarded(slide, SETTINGS, tmp_path / "gone", mem_mb=1000, seconds=60)
    assert not (tmp_path / "gone").exists()


def test_verdicts_come_through(slide, tmp_path):
    (tmp_path / "b.tif").write_bytes(slide.read_bytes()[:1000])
    with pytest.raises(SlideError, match=r"b\.tif: .*(truncated|damaged)"):
        run(tmp_path / "b.tif")
    # outlines are of one slide: the others go on
    with pytest.raises(SlideError, match=r"none\.geojson"):
        run(slide, outlines=str(tmp_path / "none.geojson"))


@pytest.mark.parametrize(
    "code,line",
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashes its decoder .SIGSEGV."),
        ("os.abort()", "crashes its decoder .SIGABRT."),
        ("import numpy; numpy.ones(2 << 30, 'u1')", "needs more than 1000 MB"),
        ("raise KeyError('x')", "can't be indexed: KeyError"),
    ],
)
def test_a_child_that_breaks_is_one_line_about_the_slide(slide, child_that, code, line):
    child_that(code)
    with pytest.raises(SlideError, match=rf"a\.tif: .*{line}"):
        run(slide)


def test_time_is_limited(slide, child_that):
    child_that("time.sleep(60)")
    start = time.monotonic()
    with pytest.raises(SlideError, match=r"a\.tif: not indexed within 1 s"):
        run(slide, seconds=1)
    assert time.monotonic() - start < 30
    child_that("while True: pass")
    with pytest.raises(SlideError, match=r"a\.tif: (took more CPU|not indexed within)"):
        run(slide, seconds=1)


@pytest.mark.parametrize(
    "code,kind",
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", MemoryError),  # as the kernel does
        ("raise OSError(5, 'Input/output error')", OSError),
        ("os._exit(3)", RuntimeError),
    ],
)
def test_the_machines_failures_are_no_verdict_on_the_slide(slide, child_that, code, kind):
    child_that(code)
    with pytest.raises(kind):
        run(slide)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_to_all_processes_is_no_end_of_the_child(slide, child_that, signum):
    """A preempted job's processes are all told to leave; the job itself says what comes of it."""
    child_that(f"os.kill(os.getpid(), signal.{signum.name})\nreturn {{'on': 1}}")
    assert run(slide) == {"on": 1}


def test_nor_is_one_that_comes_before_its_first_line(slide, child_that, monkeypatch):
    child_that("return {'on': 1}")
    start = subprocess.Popen

    def hit(*arguments, **keywords):
        child = start(*arguments, **keywords)
        child.send_signal(signal.SIGTERM)
        return child

    monkeypatch.setattr(subprocess, "Popen", hit)
    assert run(slide) == {"on": 1}
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()), "the job itself hears them"


def test_the_child_dies_with_its_parent(slide, child_that, tmp_path):
    child_that(f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)")
    program = (
        "from slideunet.guard import index_slide_guarded\n"
        f"index_slide_guarded({str(slide)!r}, {SETTINGS!r}, {str(tmp_path)!r}, "
        "mem_mb=999, seconds=60)"
    )
    scripts = str(Path(guard.__file__).parents[1])
    paths = os.pathsep.join([scripts, str(tmp_path)])
    environment = {**os.environ, "PYTHONPATH": paths}
    parent = subprocess.Popen([sys.executable, "-c", program], env=environment)
    pid = wait_for(lambda: (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else None)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert wait_for(lambda: not Path(f"/proc/{pid}").exists() or zombie(pid))


def zombie(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def wait_for(question, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = question()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError("waited in vain")
