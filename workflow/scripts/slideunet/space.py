"""Room for a slide's results, asked before they are computed: bytes and files.

How many files there will be is known exactly. How far pixels compress is not: 0.16 to 0.37 bytes a
value were measured (docs/reliability.md). So what is certain to be needed is told from what may be
needed: a job is refused only where not even the least has room.
"""

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

from slideunet.errors import UserError

log = logging.getLogger("unet-slides")

# Bytes a value of probability and class maps: a third of the least that was measured, and what
# values take that do not compress. Of instance labels the same, a pixel.
LEAST, MOST = 0.05, 1.0
LABEL_LEAST, LABEL_MOST = 0.01, 4.0
# A pyramid takes a third more than its finest level.
PYRAMID = 4 / 3


@dataclass(frozen=True)
class Need:
    """Files and folders to be made; bytes at least and at most."""

    files: int
    bytes_least: int
    bytes_most: int


def need_of(paths: Iterable[str], values: int, least: float = LEAST, most: float = MOST) -> Need:
    """What files of these paths need for so many values of the finest level, in bytes a value.

    paths : relative to one folder. Their folders count as files: they too take a place in the file
    system's table.
    """
    files = set(paths)
    folders = {parent for path in files for parent in PurePath(path).parents} - {PurePath(".")}
    return Need(
        len(files) + len(folders), int(values * PYRAMID * least), int(values * PYRAMID * most)
    )


def check_space(folder: Path, need: Need, what: str) -> None:
    """Raise UserError, with path, needed and free, where `need` can't fit; log the estimate.

    A file system that does not tell how many files it can take (btrfs, some network ones) is asked
    for bytes only.
    """
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    files = found.f_favail if found.f_files else need.files
    log.info(
        "%s: %d files, %.0f to %.0f MB; free: %.0f MB",
        what, need.files, need.bytes_least / 1e6, need.bytes_most / 1e6, free / 1e6,
    )  # fmt: skip
    if free < need.bytes_least or files < need.files:
        raise UserError(
            f"{folder}: no space left for the {what}: needs at least "
            f"{need.bytes_least / 1e6:.1f} MB and {need.files} files (free there: "
            f"{free / 1e6:.1f} MB, {files} files): make room and call again"
        )
    if free < need.bytes_most:
        log.warning("%s: may not fit: %.0f MB are free", folder, free / 1e6)
