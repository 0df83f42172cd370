"""Where a job's output goes: its log, or where that can't be written, where it would have gone."""

import contextlib
import io
import os
import sys
from pathlib import Path


def redirect(log_file: str) -> None:
    """Let descriptors 1 and 2, sys.stdout and sys.stderr write to the log.

    A log lies among the results: a disk that is full has no room for it either. What Python says
    then goes to the descriptor that was 2 before (Snakemake's own output), and no print and no
    message of logging fails. Raises OSError where the log can't be opened.
    """
    Path(log_file).parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    console = os.dup(2)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.stdout = sys.stderr = io.TextIOWrapper(
        _Log(console), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


class _Log(io.FileIO):
    """Descriptor 2, unbuffered: what stayed in a buffer would fail once more at the end."""

    def __init__(self, console: int):
        super().__init__(2, "w", closefd=False)
        self._console = console

    def write(self, data) -> int:
        """Write all of it to the log; else, from its beginning, to the console."""
        size = memoryview(data).nbytes
        with contextlib.suppress(OSError):
            if super().write(data) == size:
                return size
        with contextlib.suppress(OSError):  # nowhere else to say it
            os.write(self._console, data)
        return size
