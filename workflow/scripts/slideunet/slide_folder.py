"""Slides given as a folder or a glob instead of a table. Settled before the first job.

A slide's id comes from its own name alone, so that a slide that is added or taken away changes no
other slide's id: the name without its ending where that can be an id, else what is left of it and
a digest of the path below the folder.

Imported by the Snakefile side: names are looked at, no slide is opened.
"""

import glob
import hashlib
import os
import re
from collections import Counter
from collections.abc import Container

from slideunet import tables
from slideunet.errors import UserError

# What is taken for a slide in a folder. A glob takes all that it matches.
ENDINGS = (
    *(".ome.tiff", ".ome.tif", ".ome.zarr", ".zarr", ".svs", ".tiff", ".tif", ".qptiff"),
    *(".ndpi", ".scn", ".mrxs", ".bif", ".vms", ".vmu", ".svslide", ".czi"),
)
UNUSABLE = re.compile(r"[{}<>\n\r]")
UNCLEAN = re.compile(r"[^A-Za-z0-9_-]+")
# An id has at most 64 letters: so many of a name, before "-" and 8 digits of its digest.
KEPT = 64 - 9


def read_slides(
    value: str,
    schema: dict,
    made: Container[str] = (),
    look: bool = True,
    endings: tuple[str, ...] = ENDINGS,
) -> tuple[dict[str, dict], list[dict]]:
    """id -> row of each slide, and those that can't be used: {slide, stage, reason}.

    Parameters
    ----------
    value : path of a table (see tables.read_slides), a folder of slides, a glob, or one slide
    schema, made : of a table
    look : whether the files themselves are looked at; a job on a cluster trusts the run it is of
    endings : of the names that are taken for slides in a folder

    Raises UserError for a table that is none, and for a folder or glob with no slide in it.
    """
    value = os.path.expandvars(value)
    if not (_is_slide(value) or os.path.isdir(value) or glob.has_magic(value)):
        return tables.read_slides(value, schema, made, look)
    base, paths = _listing(value, endings)
    if not paths:
        raise UserError(
            f"config: slides: {value}: no slide there: give a table, a glob, or a folder of "
            f"files ({', '.join(endings)}) or folders of DICOM files"
        )
    ids = {path: id_of(os.path.relpath(path, base)) for path in paths}
    times = Counter(ids.values())
    rows, refused, known = {}, [], {}
    # a link after what it may link to
    for path in sorted(paths, key=lambda path: (look and os.path.islink(path), path)):
        name = ids[path]
        problem = _problem(path, known) if look else _unusable(path)
        if times[name] > 1:
            same = ", ".join(_shown(other) for other in paths if ids[other] == name)
            problem = f"id {name!r} is that of {same}: rename all but one, or name them in a table"
        if problem:
            refused.append(
                {"slide": name, "stage": "table", "reason": f"{_shown(path)}: {problem}"}
            )
        else:
            rows[name] = {"id": name, "image": path}
    return rows, refused


def id_of(relative: str) -> str:
    """The id of a slide with this path below its folder."""
    ending = next((e for e in ENDINGS if relative.lower().endswith(e)), None)
    stem = relative[: -len(ending)] if ending else os.path.splitext(relative)[0]
    if tables.ID.fullmatch(stem):
        return stem
    digest = hashlib.sha256(os.fsencode(relative)).hexdigest()[:8]
    return f"{UNCLEAN.sub('-', stem).strip('-_')[:KEPT] or 'slide'}-{digest}"


def _listing(value: str, endings: tuple[str, ...]) -> tuple[str, list[str]]:
    """The folder that ids are relative to, and the paths of the slides below it, sorted."""
    if _is_slide(value):
        return os.path.dirname(value) or ".", [value]
    if not os.path.isdir(value):
        found = glob.glob(value, recursive=True)
        fixed = os.path.dirname(value[: glob.magic_check.search(value).start()] + "x")
        return fixed or ".", sorted(path.rstrip("/") for path in found)
    with os.scandir(value) as entries:
        found = [
            entry.path
            for entry in entries
            if not entry.name.startswith(".")
            and (entry.name.lower().endswith(endings) or _is_dicom_folder(entry))
        ]
    return value, sorted(found)


def _is_slide(value: str) -> bool:
    """Whether a path names one slide, not a folder of slides or a table."""
    return not glob.has_magic(value) and value.lower().rstrip("/").endswith(ENDINGS)


def _is_dicom_folder(entry: os.DirEntry) -> bool:
    try:
        if not entry.is_dir():
            return False
        with os.scandir(entry.path) as inside:
            return any(one.name.lower().endswith(".dcm") for one in inside)
    except OSError:
        return False


def _problem(path: str, known: dict) -> str | None:
    """What keeps the slide from being read, or None; `known`: files met before."""
    problem = _unusable(path)
    if problem:
        return problem
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return "a link to a file that is not there"
    except OSError as error:
        return str(error.strerror)
    if not os.access(path, os.R_OK):
        return "no permission to read it"
    if stat.st_size == 0:
        return "empty file"
    first = known.setdefault((stat.st_dev, stat.st_ino), path)
    return None if first == path else f"the same file as {_shown(first)}"


def _unusable(path: str) -> str | None:
    """What in the path no rule can have."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name is no UTF-8: rename or link it"
    if UNUSABLE.search(path):
        return "{ } < > and line ends can't be used in a path: rename or link it"
    return None


def _shown(path: str) -> str:
    """The path as text on one line."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text.replace("\n", "\\n").replace("\r", "\\r")
