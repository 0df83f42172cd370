"""A slide read in child processes: a decoder that crashes takes a child along, not the job.

The children open the slide themselves (`open_slide`), with limits of memory, and of CPU and wall
time for each window; pixels come back through a pipe (1 ms per 4 MB). Several children decode side
by side, beyond Python's lock. A child that dies is replaced and its window asked for once more;
where the next one dies too the window counts as one bad tile.
"""

import fcntl
import json
import math
import os
import queue
import resource
import signal
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np

from slideunet.errors import SlideError
from slideunet.readers.base import BadTileError, Level, SlideReader
from slideunet.unheard import unheard

PIPE_BYTES = 1 << 20
_HEAD = struct.Struct("<II")  # bytes of JSON, bytes of pixels
_FIELDS = ("name", "format", "channels", "objective_power", "codec", "fill")
_KILLED = "its reader was killed, as when the machine's memory is short"
# Children that a window is asked of. One death may be the machine's (a page of a mapped file that a
# network disk did not bring, a minute without an answer) or come of what the child read before: a
# result must not hang on it. What breaks a fresh child again lies in the slide.
TRIES = 2
_PAIRS = ("mpp_um", "bounds", "tile_px")


class RemoteReader(SlideReader):
    """Any slide, read by `workers` child processes; the same pixels as `open_slide(path)` reads.

    `mem_mb`: memory of each child; `seconds`: CPU and wall time of opening and of each window.
    Raises SlideError as `open_slide` does, and for a slide that breaks or outlasts its reader;
    MemoryError if the machine ended a child.
    """

    def __init__(self, path: str, *, workers: int = 1, mem_mb: int = 1000, seconds: int = 60):
        super().__init__(path)
        self._limits = {"mem_bytes": int(mem_mb) << 20, "seconds": max(1, int(seconds))}
        self._idle: queue.Queue[_Child | None] = queue.Queue()  # None: died, to be started
        self._closed = False
        self._bad_tiles: set[tuple[int, int, int, int, int]] = set()
        self._of_thread = threading.local()
        first = _start(self.path, self._limits)
        for field in _FIELDS:
            setattr(self, field, first.facts[field])
        for field in _PAIRS:
            value = first.facts[field]
            setattr(self, field, None if value is None else tuple(value))
        self.levels = [Level(*level) for level in first.facts["levels"]]
        self.dtype = np.dtype(first.facts["dtype"])
        self._idle.put(first)
        for _ in range(workers - 1):
            self._idle.put(_start(self.path, self._limits))

    def _read(self, level: int, y: int, x: int, height: int, width: int) -> np.ndarray:
        window = (level, y, x, height, width)
        shape = (len(self.channels), height, width)
        head, data = self._ask({"window": window, "mask": self.mask_bad_tiles})
        if "pixels" in head:
            with self._bad_lock:
                self._bad_tiles.update(tuple(bad) for bad in head["bad"])
                self.bad_windows |= self._bad_tiles
                self.first_bad_reason = self.first_bad_reason or head["reason"]
            return np.frombuffer(data, self.dtype).reshape(shape)
        if "tile" in head:
            raise BadTileError(head["message"], tuple(head["tile"]))
        if "os" in head:
            raise OSError(head["os"], head["message"])
        if head.get("died") == _KILLED:
            raise MemoryError(f"{self.path}: {_KILLED}")
        self.bad_tile(head.get("died") or head["message"], window)
        self._lost.add(window)
        return np.full(shape, self.fill, self.dtype)

    def _ask(self, request: dict) -> tuple[dict, bytes]:
        """The answer of a child, or of a fresh one where that dies: see TRIES."""
        child = self._idle.get()
        try:
            for _ in range(TRIES):
                child = child or _start(self.path, self._limits)
                head, data = child.ask(request)
                if "died" not in head:
                    break
                child = None
                if head["died"] == _KILLED:  # no verdict on the slide: the job is told at once
                    break
        finally:
            self._idle.put(child)
        return head, data

    @property
    def _lost(self) -> set[tuple[int, int, int, int, int]]:
        """Windows that the calling thread asked for and did not get."""
        return self._of_thread.__dict__.setdefault("lost", set())

    def bad_windows_here(self) -> set[tuple[int, int, int, int, int]]:
        """Bad tiles, and windows that this thread has lost as a whole since it last asked.

        Where a decoder dies the window that it was asked for is lost, sound pixels and all. To what
        other threads read that says nothing: they may come to the bad place by another window or
        not at all, and which of them came first must not matter.
        """
        with self._bad_lock:
            found = self._bad_tiles | self._lost
        self._lost.clear()
        return found

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            while not self._idle.empty():
                if (child := self._idle.get()) is not None:
                    child.end()


class _Child:
    """One child process and the two pipes to it."""

    def __init__(self, path: str, limits: dict):
        scripts = str(Path(__file__).resolve().parents[2])
        paths = [scripts, *filter(None, [os.environ.get("PYTHONPATH")])]
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        answers, write_end = os.pipe()
        _widen(write_end)
        self._answers = os.fdopen(answers, "rb")
        try:
            with unheard():
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "slideunet.readers.remote", str(write_end)],
                    stdin=subprocess.PIPE,
                    stdout=2,
                    pass_fds=[write_end],
                    env={**os.environ, **one, "PYTHONPATH": os.pathsep.join(paths)},
                )
        finally:
            os.close(write_end)
        self.facts, _ = self.ask({"path": path, **limits})

    def ask(self, request: dict) -> tuple[dict, bytes]:
        """The answer's head and pixels; `died` in the head, with the reason, if the child did."""
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            head, pixels = _HEAD.unpack(self._answers.read(_HEAD.size))
            text = self._answers.read(head)
            data = self._answers.read(pixels)
            if len(text) == head and len(data) == pixels:
                answer = json.loads(text)
                if "died" in answer:  # by its own account: what it holds is in the way of more
                    self.end()
                return answer, data
        except (BrokenPipeError, struct.error):
            pass  # it is gone: its exit status says why
        self.end()
        return {"died": _why(self._process.returncode)}, b""

    def end(self) -> None:
        for pipe in (self._process.stdin, self._answers):
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # what was left to send has nobody to read it
        self._process.wait()


def _start(path: str, limits: dict) -> _Child:
    """A child that has opened the slide; the errors are those of RemoteReader."""
    for _ in range(TRIES):
        child = _Child(path, limits)
        facts = child.facts
        if facts.get("died", _KILLED) == _KILLED:
            break
    if "levels" in facts:
        return child
    child.end()
    if "os" in facts:
        raise OSError(facts["os"], facts["message"])
    if "message" in facts:
        raise SlideError(facts["message"])
    if facts["died"] == _KILLED:
        raise MemoryError(f"{path}: {_KILLED}")
    raise SlideError(f"{path}: can't be opened: {facts['died']}")


def _widen(pipe: int) -> None:
    """So that a window of several MB comes in fewer pieces; left as it is where that is refused."""
    with suppress(AttributeError, OSError):  # not Linux; the user's share of such memory is used up
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _why(code: int) -> str:
    if code == -signal.SIGALRM:
        return "no answer within the limit of time"
    if code == -signal.SIGXCPU:
        return "no answer within the limit of CPU time"
    if code == -signal.SIGKILL:
        return _KILLED  # not by the limit: no verdict on the slide
    if code < 0:
        return f"its decoder crashes ({signal.Signals(-code).name})"
    return f"its reader ended with status {code}"


def main() -> None:
    """The child: opens the slide, then answers windows until its input ends."""
    from slideunet.readers.open import open_slide

    answers = os.fdopen(int(sys.argv[1]), "wb")
    start = json.loads(sys.stdin.buffer.readline())
    limit = start["mem_bytes"]
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    reader = None

    def first() -> dict:
        nonlocal reader
        reader = open_slide(start["path"])
        levels = [(v.height, v.width, v.downsample) for v in reader.levels]
        fields = {field: getattr(reader, field) for field in _FIELDS + _PAIRS}
        return {**fields, "levels": levels, "dtype": reader.dtype.str}

    _answer(answers, start["seconds"], first)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _answer(answers, start["seconds"], lambda r=request: _window(reader, r))


def _window(reader: SlideReader, request: dict) -> dict:
    reader.mask_bad_tiles = request["mask"]
    pixels = reader.read(*request["window"])
    # All so far: a tile that did not decode is kept, and not noted when it is met again.
    bad = sorted(reader.bad_windows)
    return {"pixels": np.ascontiguousarray(pixels), "bad": bad, "reason": reader.first_bad_reason}


def _answer(pipe, seconds: int, work) -> None:
    """Send what `work` returns, or its error; SIGALRM or SIGXCPU ends the process that takes long.

    Of one thread the first of them covers the other: the second is for decoders that start threads,
    or that keep the alarm from coming.
    """
    _limit_cpu(seconds)
    signal.alarm(seconds)
    data = b""
    try:
        head = work()
        if "pixels" in head:
            data = head["pixels"].reshape(-1).view(np.uint8).data
            head["pixels"] = True
    except BadTileError as error:
        head = {"message": str(error), "tile": error.window}
    except MemoryError:
        head = {"died": "it needs more memory than a reader may have"}
    except OSError as error:
        head = {"message": str(error), "os": error.errno or 0}
    except SlideError as error:
        head = {"message": str(error)}
    signal.alarm(0)
    text = json.dumps(head).encode()
    pipe.write(_HEAD.pack(len(text), len(data)) + text)
    pipe.write(data)
    pipe.flush()


def _limit_cpu(seconds: int) -> None:
    """End the process (SIGXCPU) once it has used so many seconds more, of all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = math.ceil(used.ru_utime + used.ru_stime) + seconds
    if hard != resource.RLIM_INFINITY:  # whoever started the job allows no more
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


if __name__ == "__main__":
    main()
