"""Index a slide in a child process with limits: a hostile file costs that process, nothing else.

Decoders are native code, and files may be made to break them. The child has a limit of memory
(RLIMIT_DATA), of CPU time and of wall time; what becomes of it is one line about the slide. It dies
with its parent.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from slideunet.errors import SlideError, UserError
from slideunet.unheard import unheard

# Reading a slide once for its checksum is allowed at this rate on top of the limit of time.
READ_BYTES_PER_SECOND = 20e6
_CRASHES = {
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGABRT,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSYS,
    signal.SIGTRAP,
}


def index_slide_guarded(
    path: str,
    settings: dict,
    folder: str | os.PathLike,
    tissue_geojson: str | None = None,
    *,
    mem_mb: int,
    seconds: float,
    stop: Callable[[], None] = lambda: None,
) -> dict:
    """`slides.index_slide` in a child process; the same arguments, facts and files.

    `mem_mb`: memory of the child, `seconds`: its CPU and its wall time, plus the time to read the
    file once at 20 MB/s. `stop` is called each second: what it raises ends the child too; signals
    that tell a job to leave are not heard by the child. Raises SlideError for a slide or
    outlines that can't be used, for a slide that breaks a decoder or needs more than the limits;
    MemoryError if the machine (not the limit) ended the child; OSError for the machine's own
    failures.
    """
    path = os.fspath(path)
    seconds = seconds + (
        os.path.getsize(path) / READ_BYTES_PER_SECOND if os.path.isfile(path) else 0
    )
    request = {
        "path": path,
        "settings": settings,
        "folder": os.fspath(folder),
        "tissue_geojson": tissue_geojson and os.fspath(tissue_geojson),
        "mem_bytes": int(mem_mb) << 20,
        "cpu_seconds": int(seconds) + 1,
        "parent": os.getpid(),
    }
    read_end, write_end = os.pipe()
    command = [sys.executable, "-P", "-m", "slideunet.guard", str(write_end)]
    try:
        with unheard():
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=2, pass_fds=[write_end], env=_environment()
            )
    finally:
        os.close(write_end)
    try:
        answer = _converse(child, read_end, request, seconds, stop)
    except subprocess.TimeoutExpired as error:
        raise SlideError(
            f"{path}: not indexed within {seconds:.0f} s (limit: index.seconds)"
        ) from error
    finally:
        child.kill()
        child.wait()
    return _verdict(path, child.returncode, answer, mem_mb)


def _converse(
    child: subprocess.Popen, read_end: int, request: dict, seconds: float, stop: Callable
) -> bytes:
    """Hand the request over, wait for the end, return what the child wrote."""
    with os.fdopen(read_end, "rb") as answer:
        # A child that dies at once leaves a broken pipe: its end says why.
        try:
            child.stdin.write(json.dumps(request).encode())
            child.stdin.close()
        except BrokenPipeError:
            pass
        os.set_blocking(answer.fileno(), False)
        return _collect(child, answer, seconds, stop)


def _collect(child: subprocess.Popen, answer, seconds: float, stop: Callable) -> bytes:
    import select
    import time

    end, parts = time.monotonic() + seconds, []
    while True:
        stop()
        left = end - time.monotonic()
        if left <= 0:
            raise subprocess.TimeoutExpired(child.args, seconds)
        if select.select([answer], [], [], min(left, 1.0))[0]:
            part = answer.read()
            if not part:
                break
            parts.append(part)
    child.wait(timeout=max(1.0, end - time.monotonic()))
    return b"".join(parts)


def _environment() -> dict[str, str]:
    """The child finds this package first, and starts no threads of its own."""
    scripts = str(Path(__file__).resolve().parents[1])
    paths = [scripts, *filter(None, [os.environ.get("PYTHONPATH")])]
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **one, "PYTHONPATH": os.pathsep.join(paths)}


def _verdict(path: str, code: int, answer: bytes, mem_mb: int) -> dict:
    if code == 0 and answer:
        result = json.loads(answer)
        if "facts" in result:
            return result["facts"]
        kind, message = result["error"], result["message"]
        if kind == "memory":
            raise SlideError(f"{path}: needs more than {mem_mb} MB to be indexed (index.mem_mb)")
        if kind == "os":
            raise OSError(result["errno"], message)
        raise (SlideError if kind == "slide" else UserError)(message)
    if code == -signal.SIGXCPU:
        raise SlideError(f"{path}: took more CPU time than it may to be indexed (index.seconds)")
    if -code in _CRASHES:
        raise SlideError(f"{path}: crashes its decoder ({signal.Signals(-code).name})")
    if code == -signal.SIGKILL:
        raise MemoryError(f"{path}: the process indexing it was killed, as when memory is short")
    raise RuntimeError(f"{path}: the process indexing it ended with status {code}")


def main() -> None:
    """The child: limits first, then the work; the answer goes down the pipe as JSON."""
    with os.fdopen(int(sys.argv[1]), "w") as pipe:
        request = json.loads(sys.stdin.buffer.read())
        _limit(request["mem_bytes"], request["cpu_seconds"])
        if os.getppid() != request["parent"]:
            sys.exit(1)  # the parent was killed before this process was tied to it
        json.dump(_answer(request), pipe, sort_keys=True, allow_nan=False)


def _answer(request: dict) -> dict:
    try:
        from slideunet.slides import index_slide  # heavy imports run under the limits

        keys = ("path", "settings", "folder", "tissue_geojson")
        return {"facts": index_slide(*(request[key] for key in keys))}
    except SlideError as error:
        return {"error": "slide", "message": _as_text(error)}
    except UserError as error:
        return {"error": "user", "message": _as_text(error)}
    except MemoryError:
        return {"error": "memory", "message": ""}
    except OSError as error:
        return {"error": "os", "errno": error.errno or 0, "message": str(error)}
    except Exception as error:
        traceback.print_exc()  # into the log; the verdict is one line
        return {
            "error": "slide",
            "message": _as_text(f"{request['path']}: can't be indexed: {error!r}"),
        }


def _as_text(error: object) -> str:
    """A message that can be written as UTF-8: bytes of names that aren't are shown as \\xff."""
    return str(error).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _limit(mem_bytes: int, cpu_seconds: int) -> None:
    import ctypes

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: die with the parent
        resource.setrlimit(resource.RLIMIT_DATA, (mem_bytes, mem_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
