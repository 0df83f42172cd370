"""Files that are whole or not there, also after a power loss."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, flushed to the disk and renamed to `path` at the end.

    An error in between (a full disk: OSError) leaves nothing behind.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    flush_folder(path.parent)


def write_file(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all, and flushed to the disk."""
    with written_aside(path) as file:
        file.write(content)


def flush_folder(folder: Path) -> None:
    """Make renames in the folder last through a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
