"""Functions in processes of their own that have all imports done, so that killing them is cheap.

Python's forkserver forks each process from one that has imported the stages. It is started with
crash_point.c preloaded where there is a compiler: a process can be told to die at its k-th step.
"""

import ctypes
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PRELOADED = [
    f"slideunet.stages.{name}"
    for name in (
        *("ingest", "weights", "train", "evaluate", "index", "segment", "objects", "overlay"),
        "compare",
    )
]
_context = multiprocessing.get_context("forkserver")


def build_shim(folder: Path) -> Path | None:
    """The compiled crash_point.c, None without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    shim = folder / "crash_point.so"
    source = Path(__file__).with_name("crash_point.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
    return shim


def start_server(shim: Path | None) -> None:
    """Start the process that the others are forked from."""
    kept = dict(os.environ)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    os.environ["UNET_SLIDES_SHIM"] = str(shim or "")
    if shim:
        os.environ["LD_PRELOAD"] = str(shim)
    try:
        _context.set_forkserver_preload([*PRELOADED, "warm_imports", "crash_cases", "bad_models"])
        done = _context.Process(target=int)  # the first one starts the server
        done.start()
        done.join()
    finally:
        os.environ.clear()
        os.environ.update(kept)


class Run:
    """One call in a process of its own; its output goes into the file `log`."""

    def __init__(self, function: Callable, *arguments, log: Path, prepare=None, **keywords):
        self.log = log
        self.process = _context.Process(
            target=_call, args=(function, arguments, keywords, str(log), prepare)
        )
        self.process.start()

    def join(self, seconds: float | None = None) -> int | None:
        """The exit status, -signal of a process that was killed; None while it runs."""
        self.process.join(seconds)
        return self.process.exitcode

    def kill(self) -> int:
        """SIGKILL, and the exit status: that of the call where it had ended before."""
        self.process.kill()
        return self.join()


def call(function: Callable, *arguments, log: Path, **keywords) -> int:
    """Run to the end; the exit status."""
    return Run(function, *arguments, log=log, **keywords).join()


def finish(function: Callable, *arguments, log: Path, **keywords) -> None:
    """Run to the end; an AssertionError with the log where that failed."""
    status = call(function, *arguments, log=log, **keywords)
    assert status == 0, f"status {status}\n{log.read_text()[-3000:]}"


class DieAt:
    """Arms the shim: the process dies before its k-th step below `folder`.

    torn : within it, where it is a write; writes_only : only these are steps, and torn
    """

    def __init__(
        self, folder: Path, step: int, torn: bool = False, *, writes_only: bool = False,
        count: Path | None = None,
    ):  # fmt: skip
        self.folder, self.step, self.count = folder, step, count
        self.tear = 2 if writes_only else int(torn)  # as crash_point.c has them

    def __call__(self) -> None:
        shim = ctypes.CDLL(os.environ["UNET_SLIDES_SHIM"])
        shim.crash_point_arm(os.fsencode(self.folder), ctypes.c_long(self.step), self.tear)

    def after(self) -> None:
        """Note how many steps there were."""
        shim = ctypes.CDLL(os.environ["UNET_SLIDES_SHIM"])
        steps = shim.crash_point_count()
        shim.crash_point_arm(b"", ctypes.c_long(0), 0)
        if self.count is not None:
            self.count.write_text(str(steps))


def _call(function, arguments, keywords, log: str, prepare) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for before in prepare or ():
        before()
    function(*arguments, **keywords)
    for before in prepare or ():
        getattr(before, "after", lambda: None)()
