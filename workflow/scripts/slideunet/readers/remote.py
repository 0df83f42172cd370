"""A slide read in child processes: a decoder that crashes takes a child along, not the job.

The children open the slide themselves (`open_slide`), with a limit of memory and of wall time for
each window; pixels come back through a pipe (1 ms per 4 MB). Several children decode side by side,
beyond Python's lock. A child that dies is replaced, and its window counts as one bad tile.
"""

import fcntl
import json
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
_PAIRS = ("mpp_um", "bounds", "tile_px")


class RemoteReader(SlideReader):
    """Any slide, read by `workers` child processes; the same pixels as `open_slide(path)` reads.

    `mem_mb`: memory of each child; `seconds`: wall time of opening and of each window. Raises
    SlideError as `open_slide` does, and for a slide that breaks or outlasts its reader; MemoryError
    if the machine ended a child.
    """

    def __init__(self, path: str, *, workers: int = 1, mem_mb: int = 1000, seconds: int = 60):
        super().__init__(path)
        self._limits = {"mem_bytes": int(mem_mb) << 20, "seconds": max(1, int(seconds))}
        self._idle: queue.Queue[_Child] = queue.Queue()
        self._closed = False
        self._bad_tiles: set[tuple[int, int, int, int, int]] = set()
        self._of_thread = threading.local()
        first = _Child(self.path, self._limits)
        for field in _FIELDS:
            setattr(self, field, first.facts[field])
        for field in _PAIRS:
            value = first.facts[field]
            setattr(self, field, None if value is None else tuple(value))
        self.levels = [Level(*level) for level in first.facts["levels"]]
        self.dtype = np.dtype(first.facts["dtype"])
        self._idle.put(first)
        for _ in range(workers - 1):
            self._idle.put(_Child(self.path, self._limits))

    def _read(self, level: int, y: int, x: int, height: int, width: int) -> np.ndarray:
        window = (level, y, x, height, width)
        shape = (len(self.channels), height, width)
        child = self._idle.get()
        try:
            head, data = child.ask({"window": window, "mask": self.mask_bad_tiles})
            if "died" in head:
                child = _Child(self.path, self._limits)
        finally:
            self._idle.put(child)
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
                self._idle.get().end()


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
        if "levels" not in self.facts:
            self.end()
            if "os" in self.facts:
                raise OSError(self.facts["os"], self.facts["message"])
            if "message" in self.facts:
                raise SlideError(self.facts["message"])
            if self.facts["died"] == _KILLED:
                raise MemoryError(f"{path}: {_KILLED}")
            raise SlideError(f"{path}: can't be opened: {self.facts['died']}")

    def ask(self, request: dict) -> tuple[dict, bytes]:
        """The answer's head and pixels; `died` in the head, with the reason, if the child did."""
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            head, pixels = _HEAD.unpack(self._answers.read(_HEAD.size))
            text = self._answers.read(head)
            data = self._answers.read(pixels)
            if len(text) == head and len(data) == pixels:
                return json.loads(text), data
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


def _widen(pipe: int) -> None:
    """So that a window of several MB comes in fewer pieces; left as it is where that is refused."""
    with suppress(AttributeError, OSError):  # not Linux; the user's share of such memory is used up
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _why(code: int) -> str:
    if code == -signal.SIGALRM:
        return "no answer within the limit of time"
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
    """Send what `work` returns, or its error; SIGALRM ends the process when it takes too long."""
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
        head = {"message": "it needs more memory than a reader may have"}
    except OSError as error:
        head = {"message": str(error), "os": error.errno or 0}
    except SlideError as error:
        head = {"message": str(error)}
    signal.alarm(0)
    text = json.dumps(head).encode()
    pipe.write(_HEAD.pack(len(text), len(data)) + text)
    pipe.write(data)
    pipe.flush()


if __name__ == "__main__":
    main()
