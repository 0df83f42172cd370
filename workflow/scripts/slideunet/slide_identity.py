"""Which slides have changed since they were indexed: told by size and time, then by content.

Rule index has a slide's size and time as a parameter, so that a changed slide is indexed again.
A slide that was only touched, copied or moved has another time and the same content: found here,
before Snakemake plans, by comparing its sha256 with that in its manifest. Such a slide keeps the
parameter that it was indexed with, so that nothing is planned for it.

Imported by the Snakefile side; a slide is read only where its time changed and its size did not.
"""

import json
import math
import os
import sys
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import chain
from pathlib import Path

from slideunet.errors import SlideError
from slideunet.readers.files import identity
from slideunet.slide_file import NAME, write_source
from slideunet.slide_stat import stat_of

MANIFEST = "slide.json"
# Reading waits for the disk more than for a core.
WORKERS = 8
# A dry run notes nothing, so it would read the same bytes again and again: no more than these.
DRY_RUN_BYTES = 50e9
# How often the comparison of a whole archive says how far it is.
NOTE_SECONDS = 30


def identity_of(results: str, slide: str, path: str, same: Collection[str] = ()) -> dict:
    """Size and time that rule index is told of a slide: those it was indexed with, if its content
    is the same still.

    `same`: ids that `find_same` found. Raises OSError where the slide is not there.
    """
    source = _source(_folder(results, slide))
    if source is not None and (slide in same or source["stat"] == stat_of(path)):
        return source["identity"]
    return stat_of(path)


def bytes_to_read(dry_run: bool, in_turn: bool) -> float:
    """How much `find_same` may read in a call. In stages jobs find out what is the same."""
    if in_turn:
        return 0
    return DRY_RUN_BYTES if dry_run else math.inf


def find_same(
    results: str, slides: dict[str, str], *, note: bool = True, read_bytes: float = math.inf
) -> set[str]:
    """Ids of the slides that have another time or path than when they were indexed, and the same
    content.

    slides : id -> path
    note : whether their new time and path are written beside their manifests (a dry run writes
        nothing): they are not compared again then, and segmentation takes them for unchanged
    read_bytes : of slides so many are read in all; the others are left out, as if they had changed
    """
    moved, touched, identities = {}, {}, {}
    for slide, path in slides.items():
        folder = _folder(results, slide)
        source = _source(folder)
        try:
            now = stat_of(path)
        except OSError:
            continue
        if source is None or (source["stat"], source["path"]) == (now, path):
            continue
        identities[slide] = source["identity"]
        facts = (_read(folder / MANIFEST) or {}).get("facts")
        if source["stat"] == now:
            moved[slide] = source["mtime_ns"]
        elif facts and _may_be_same(path, facts, now):
            touched[slide] = facts
    same = set()
    for slide, mtime_ns in chain(moved.items(), _compare(slides, _few(touched, read_bytes))):
        same.add(slide)
        if note:
            path, folder = slides[slide], _folder(results, slide)
            write_source(folder, path, mtime_ns, identities[slide], stat_of(path))
    return same


def _compare(slides: dict[str, str], touched: dict[str, dict]) -> Iterator[tuple[str, int]]:
    """(id, latest time in ns) of the touched slides whose content is that of their manifest."""
    if not touched:
        return
    total = sum(facts["size_bytes"] for facts in touched.values())
    _say(
        f"{len(touched)} slides ({total / 1e9:.1f} GB) have another time than when they were "
        "indexed: reading them to see whether they changed"
    )
    done, equal, said = 0, 0, time.monotonic()
    with ThreadPoolExecutor(WORKERS) as pool:
        tasks = {pool.submit(identity, slides[slide]): slide for slide in touched}
        try:
            for task in as_completed(tasks):
                slide, done = tasks[task], done + 1
                try:
                    found = task.result()
                except (OSError, SlideError):  # indexing says what is wrong with it
                    continue
                if found["sha256"] == touched[slide]["sha256"]:
                    equal += 1
                    yield slide, found["mtime_ns"]
                if time.monotonic() - said > NOTE_SECONDS:
                    said = time.monotonic()
                    _say(f"{done} of {len(touched)} slides read; what is read is not read again")
        finally:
            pool.shutdown(cancel_futures=True)
    _say(f"{equal} of {len(touched)} slides have the content that was indexed")


def _may_be_same(path: str, facts: dict, now: dict) -> bool:
    """Whether the size allows the same content. Of folders other files may have come and gone."""
    return facts["files"] > 1 or os.path.isdir(path) or facts["size_bytes"] == now["size"]


def _few(touched: dict[str, dict], read_bytes: float) -> dict[str, dict]:
    """As many as may be read."""
    few, total = {}, 0
    for slide, facts in touched.items():
        total += facts["size_bytes"]
        if total <= read_bytes:
            few[slide] = facts
    if len(few) < len(touched):
        _say(
            f"{len(touched) - len(few)} slides have another time than when they were indexed and "
            f"are taken for changed: no more than {read_bytes / 1e9:.0f} GB are read here"
        )
    return few


def _folder(results: str, slide: str) -> Path:
    return Path(results) / "slides" / slide


def _source(folder: Path) -> dict | None:
    """What was noted of a slide; None where nothing was, or by an earlier version."""
    found = _read(folder / NAME)
    known = isinstance(found, dict) and {"stat", "path", "identity", "mtime_ns"} <= found.keys()
    return found if known else None


def _read(path: Path) -> dict | None:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _say(line: str) -> None:
    print(f"unet-slides: {line}", file=sys.stderr, flush=True)
