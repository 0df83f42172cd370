"""Room for a slide's results, asked before they are made: bytes and files.

How many files there will be is known exactly. How far pixels compress is not: bounds are known
without any work, an estimate from a sample (segmentation_space.py, objects_space.py). A job is
refused only where not even the least has room.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

from slideunet.errors import UserError

log = logging.getLogger("unet-slides")

# Bytes a value of probability and class maps: a third of the least that was measured, and what
# values take that do not compress. Of instance labels the same, a pixel.
LEAST, MOST = 0.05, 1.0
LABEL_LEAST, LABEL_MOST = 0.01, 4.0
# A pyramid takes a third more than its finest level.
PYRAMID = 4 / 3
# No estimate is taken for more exact than this, whatever its sample says.
FINEST = 0.05
# Where all that may be needed is free, a sample may take such a share of the work.
SHARE = 1 / 32


class Estimate(NamedTuple):
    """Bytes, and two standard errors as a share of them."""

    size: int
    error: float


@dataclass(frozen=True)
class Need:
    """Files and folders to be made; bytes at least and at most, and as estimated from a sample."""

    files: int
    bytes_least: int
    bytes_most: int
    estimate: Estimate | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """Bytes at least and at most, by the estimate where there is one."""
        if self.estimate is None:
            return self.bytes_least, self.bytes_most
        size, error = self.estimate.size, max(FINEST, self.estimate.error)
        # an error of several times the estimate says less than what is known without a sample
        highest = max(self.bytes_most, size * (1 + FINEST))
        return size / (1 + error), min(size * (1 + error), highest)

    def __str__(self) -> str:
        if self.estimate is None:
            sizes = f"at most {self.bytes_most / 1e6:.1f} MB"
        elif self.estimate.error > 1:
            sizes = f"about {self.estimate.size / 1e6:.1f}, at most {self.bounds[1] / 1e6:.1f} MB"
        else:
            error = max(FINEST, self.estimate.error)
            sizes = f"about {self.estimate.size / 1e6:.1f} MB (within {error:.0%})"
        return f"{self.files} files, {sizes}"


def need_of(
    folder: Path, paths: Iterable[str], values: int, least: float = LEAST, most: float = MOST
) -> Need:
    """What files of these paths need for so many values of all levels, in bytes a value.

    paths : relative to `folder`. Their folders that are not there yet count as files: they too take
    a place in the file system's table.
    """
    files = set(paths)
    parents = {parent for path in files for parent in PurePath(path).parents}
    folders = [parent for parent in parents if not (folder / parent).exists()]
    return Need(len(files) + len(folders), int(values * least), int(values * most))


def spread(count: int) -> Iterator[int]:
    """0 .. count - 1, each once, in an order of which any beginning is spread evenly."""
    seen: set[int] = set()
    golden, at = (5**0.5 - 1) / 2, 0.5
    while len(seen) < count:
        number = int(at * count)
        at = (at + golden) % 1
        if number not in seen:
            seen.add(number)
            yield number


def free_bytes(folder: Path) -> int:
    """What a user may still write there."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def refuse_too_much(folder: Path, need: Need, what: str) -> None:
    """Raise UserError, with path, needed and free, where `need` can't fit.

    A file system that does not tell how many files it can take (btrfs, some network ones) is asked
    for bytes only.
    """
    found, free = os.statvfs(folder), free_bytes(folder)
    files = found.f_favail if found.f_files else need.files
    least, _ = need.bounds
    if free < least or files < need.files:
        raise UserError(
            f"{folder}: no space left for the {what}: needs at least {least / 1e6:.1f} MB and "
            f"{need.files} files (free there: {free / 1e6:.1f} MB, {files} files): make room and "
            "call again"
        )


def check_space(folder: Path, need: Need, what: str) -> None:
    """Log what is needed; raise UserError as `refuse_too_much` where it can't fit."""
    free = free_bytes(folder)
    log.info("%s: needs %s; free: %.1f MB", what, need, free / 1e6)
    refuse_too_much(folder, need, what)
    if free < need.bounds[1]:
        log.warning("%s: may not fit: %.1f MB are free", folder, free / 1e6)
