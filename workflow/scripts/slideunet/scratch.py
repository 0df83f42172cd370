"""A slide on the node's own disk: copied there before it is read, gone when the job ends.

Where many jobs read small pieces of slides from one network file system, one sequential copy is
cheaper for it. What a killed job leaves behind is swept by the next one: each copy has a lock that
its process holds.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from slideunet.errors import SlideError, UserError
from slideunet.readers.files import slide_files

log = logging.getLogger("unet-slides")

PREFIX, LOCK = "unet-slides-", "lock"
BLOCK_BYTES = 8 << 20
# Room that is left on the disk, bytes.
SPARE_BYTES = 256 << 20


@contextlib.contextmanager
def staged(path: str, scratch: str, stop: Callable[[], None] = lambda: None) -> Iterator[str]:
    """The path of a copy of the slide below the folder `scratch`, which may name $TMPDIR.

    `path` itself where `scratch` is empty or has no room (a warning says so). Errors that name the
    copy come out naming the slide. `stop` is called between blocks: what it raises ends the copy.
    Raises UserError where there is no such folder.
    """
    if not scratch:
        yield path
        return
    folder = _folder(scratch)
    _sweep(folder)
    files = slide_files(path)
    size = sum(os.stat(file).st_size for file in files)
    if shutil.disk_usage(folder).free < size + SPARE_BYTES:
        log.warning("%s: no room for the slide (%d MB): read in place", folder, size >> 20)
        yield path
        return
    with _own_folder(folder) as own:
        copy = os.fspath(own / os.path.basename(os.path.normpath(path)))
        parent = os.path.dirname(os.path.normpath(path)) or "."
        for file in files:
            _copy(file, own / os.path.relpath(file, parent), stop)
        log.info("%d MB copied to %s", size >> 20, own)
        try:
            yield copy
        except SlideError as error:
            told = SlideError(str(error).replace(copy, path))
            for note in getattr(error, "__notes__", ()):  # what the log tells beside it
                told.add_note(note.replace(copy, path))
            raise told from error


def _folder(scratch: str) -> Path:
    folder = os.path.expandvars(scratch)
    if folder.startswith("$"):
        raise UserError(f"config: scratch: {scratch} is not set here: name a folder of the node")
    if not os.path.isdir(folder):
        raise UserError(f"config: scratch: {folder}: no such folder here: name one of the node")
    return Path(folder)


@contextlib.contextmanager
def _own_folder(folder: Path) -> Iterator[Path]:
    own = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
    lock = os.open(own / f".{LOCK}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: nobody sweeps there
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.rename(own / f".{LOCK}", own / LOCK)  # locked before anyone can see it
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        os.close(lock)


def _sweep(folder: Path) -> None:
    """Remove the copies of processes that are gone."""
    for lock in folder.glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError):
            with open(lock, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
            log.info("%s: left by a job that was killed, removed", lock.parent)


def _copy(source: str, target: Path, stop: Callable[[], None]) -> None:
    """Content and time of last change of one file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(source, "rb") as read, open(target, "wb") as write:
        while block := read.read(BLOCK_BYTES):
            stop()
            write.write(block)
        stat = os.fstat(read.fileno())
    os.utime(target, ns=(stat.st_atime_ns, stat.st_mtime_ns))
