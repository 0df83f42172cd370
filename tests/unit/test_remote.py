"""Slides read in child processes: the same pixels; a crash is a bad tile and no more."""

import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import slidefiles
import tifffile
from slideunet.errors import SlideError
from slideunet.readers.base import BadTileError
from slideunet.readers.open import open_slide
from slideunet.readers.remote import RemoteReader


@pytest.fixture
def slide(tmp_path):
    path = tmp_path / "a.svs"
    slidefiles.write_svs(path, slidefiles.picture(300, 400), tile=64)
    return path


def test_the_same_facts_and_pixels_from_several_threads(slide):
    with open_slide(slide) as here, RemoteReader(slide, workers=2) as there:
        for field in ("name", "format", "levels", "dtype", "channels", "mpp_um", "bounds", "codec"):
            assert getattr(there, field) == getattr(here, field)
        assert (there.objective_power, there.tile_px, there.fill) == (20, (64, 64), 255)
        expected = here.read(0, 0, 0, 300, 400)
        wrong = []

        def look(shift):
            for y in range(shift, 200, 41):
                window = there.read(0, y, 50, 60, 300)
                wrong.extend(
                    [y] if not np.array_equal(window, expected[:, y : y + 60, 50:350]) else []
                )

        threads = [threading.Thread(target=look, args=(shift,)) for shift in (0, 3, 7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        with pytest.raises(ValueError, match="leaves level 0"):
            there.read(0, 0, 0, 301, 1)


def test_slides_that_cannot_be_opened(slide, tmp_path):
    (tmp_path / "b.svs").write_bytes(slide.read_bytes()[:3000])
    with pytest.raises(SlideError, match=r"b\.svs: (truncated|.*damaged)"):
        RemoteReader(tmp_path / "b.svs")


def test_bad_tiles_are_told_and_masked(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, slidefiles.picture(128, 128), tile=(64, 64), compression="zlib", photometric="rgb"
    )
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[0].dataoffsets[3]
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 100)
    with RemoteReader(path) as reader:
        with pytest.raises(BadTileError, match="y=64 x=64") as caught:
            reader.read(0, 0, 0, 128, 128)
        assert caught.value.window == (0, 64, 64, 64, 64)
        reader.mask_bad_tiles = True
        assert (reader.read(0, 0, 0, 128, 128)[:, 64:, 64:] == 0).all()
        assert reader.bad_windows == {(0, 64, 64, 64, 64)}


@pytest.fixture
def child_that(tmp_path, monkeypatch):
    """Makes windows at y >= 100 do something else than being read."""

    def make(code):
        (tmp_path / "sitecustomize.py").write_text(
            "import os, signal, time\nimport slideunet.readers.base as base\n"
            "read = base.SlideReader.read\n"
            f"def hook(self, level, y, *rest):\n    if y >= 100:\n        {code}\n"
            "    return read(self, level, y, *rest)\nbase.SlideReader.read = hook\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return make


@pytest.mark.parametrize(
    "code,reason",
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashes .SIGSEGV"),
        ("time.sleep(60)", "no answer within the limit of time"),
        # What the alarm does not reach: threads beside each other are so much faster than it.
        (
            "signal.alarm(0)\n        end = time.monotonic() + 20\n"
            "        while time.monotonic() < end: pass",
            "no answer within the limit of CPU time",
        ),
        ("import numpy; numpy.ones(2 << 30, 'u1')", "more memory"),
    ],
)
def test_a_child_that_breaks_is_a_bad_tile_and_is_replaced(slide, child_that, code, reason):
    child_that(code)
    with RemoteReader(slide, seconds=1) as reader:
        expected = reader.read(0, 0, 0, 50, 60)
        with pytest.raises(BadTileError, match=rf"a\.svs: .*y=110 x=5 .*{reason}") as caught:
            reader.read(0, 110, 5, 20, 30)
        assert caught.value.window == (0, 110, 5, 20, 30)
        reader.mask_bad_tiles = True
        assert (reader.read(0, 110, 5, 20, 30) == 255).all()
        assert reader.bad_windows == {(0, 110, 5, 20, 30)}
        with ThreadPoolExecutor(1) as other:  # it lost nothing
            assert other.submit(reader.bad_windows_here).result() == set()
        assert reader.bad_windows_here() == {(0, 110, 5, 20, 30)}
        assert reader.bad_windows_here() == set(), "told once: the next shard is another one"
        np.testing.assert_array_equal(reader.read(0, 0, 0, 50, 60), expected)


@pytest.mark.parametrize(
    "code",
    [
        "os.kill(os.getpid(), signal.SIGBUS)",  # a page of a mapped file that did not come
        "time.sleep(60)",
        "import numpy; numpy.ones(2 << 30, 'u1')",
    ],
)
@pytest.mark.parametrize("mask", [False, True])
def test_a_child_that_breaks_once_costs_nothing(slide, tmp_path, child_that, code, mask):
    """Else what is read would hang on chance: the same window comes whole the next time."""
    with open_slide(slide) as reader:
        expected = reader.read(0, 110, 5, 20, 30)
    child_that(
        f"if not os.path.exists({str(tmp_path / 'broke')!r}):\n"
        f"            os.mknod({str(tmp_path / 'broke')!r})\n            {code}"
    )
    with RemoteReader(slide, seconds=1) as reader:
        reader.mask_bad_tiles = mask
        np.testing.assert_array_equal(reader.read(0, 110, 5, 20, 30), expected)
        assert (tmp_path / "broke").exists()
        assert reader.bad_windows_here() == set()


def test_a_child_that_breaks_once_as_it_opens_is_replaced(slide, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, signal\nbroke = {str(tmp_path / 'broke')!r}\n"
        "if not os.path.exists(broke):\n"
        "    os.mknod(broke)\n    os.kill(os.getpid(), signal.SIGBUS)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with RemoteReader(slide) as reader:
        assert (tmp_path / "broke").exists()
        assert reader.read(0, 0, 0, 8, 8).shape == (3, 8, 8)


def test_a_child_that_cannot_be_replaced_is_told_and_tried_again(slide, child_that):
    """The slide is away for a while: no thread that comes later meets a child that is gone."""
    child_that("os.kill(os.getpid(), signal.SIGBUS)")
    away = slide.with_name("away")
    with RemoteReader(slide) as reader:
        slide.rename(away)
        for _ in range(2):
            with pytest.raises((SlideError, OSError), match=r"a\.svs"):
                reader.read(0, 110, 5, 20, 30)
        away.rename(slide)
        assert reader.read(0, 0, 0, 8, 8).shape == (3, 8, 8)


def test_the_children_end_with_the_reader(slide):
    reader = RemoteReader(slide, workers=2)
    pids = [child._process.pid for child in list(reader._idle.queue)]
    reader.close()
    reader.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_child_without_a_parent_ends(slide):
    reader = RemoteReader(slide)
    child = reader._idle.queue[0]._process
    child.stdin.close()  # what is left of a parent that was killed
    end = time.monotonic() + 30
    while child.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    assert child.poll() == 0
    reader.close()


def test_a_child_killed_by_the_machine_is_replaced(slide):
    with RemoteReader(slide) as reader:
        os.kill(reader._idle.queue[0]._process.pid, signal.SIGKILL)
        with pytest.raises(MemoryError, match=r"a\.svs: .*memory is short"):
            reader.read(0, 0, 0, 10, 10)
        assert reader.read(0, 0, 0, 10, 10).shape == (3, 10, 10)


def test_a_signal_to_all_processes_is_no_bad_tile(slide):
    """A preempted job's processes are all told to leave: the slide must not be blamed."""
    with RemoteReader(slide) as reader:
        child = reader._idle.queue[0]._process
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            child.send_signal(signum)
        assert reader.read(0, 0, 0, 8, 8).shape == (3, 8, 8)
        assert child.poll() is None


def test_nor_is_one_that_comes_before_its_first_line(slide, monkeypatch):
    start = subprocess.Popen

    def hit(*arguments, **keywords):
        child = start(*arguments, **keywords)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            child.send_signal(signum)
        return child

    monkeypatch.setattr(subprocess, "Popen", hit)
    with RemoteReader(slide) as reader:
        assert reader.read(0, 0, 0, 8, 8).shape == (3, 8, 8)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()), "the job itself hears them"
