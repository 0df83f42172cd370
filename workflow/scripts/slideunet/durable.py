"""Files that are whole or not there, also after a power loss."""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

# Errors of network file systems that pass; waits in seconds before the second, third, fourth try.
TRANSIENT = {errno.EIO, errno.ESTALE, errno.EAGAIN}
WAITS_S = (1, 4, 15)

Result = TypeVar("Result")


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, flushed to the disk and renamed to `path` at the end.

    An error in between (a full disk: OSError) leaves nothing behind, and names `path`.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        flush_folder(path.parent)
    except OSError as error:
        name_place(error, path)
        raise
    finally:
        aside.unlink(missing_ok=True)


def name_place(error: OSError, path: str | os.PathLike) -> None:
    """Note the path in an error: a write says what went wrong (no space, no quota), not where."""
    # one without a number has a message of its own, which a file name would hide
    if error.errno is not None and not error.filename:
        error.filename = os.fspath(path)


def write_file(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all, and flushed to the disk."""

    def write() -> None:
        with written_aside(path) as file:
            file.write(content)

    retried(write)


def retried(write: Callable[[], Result]) -> Result:
    """What `write` returns; called again, up to three times, after errors that may pass."""
    for wait_s in WAITS_S:
        try:
            return write()
        except OSError as error:
            if error.errno not in TRANSIENT:
                raise
            time.sleep(wait_s)
    return write()


def flush_folder(folder: Path) -> None:
    """Make renames in the folder last through a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
