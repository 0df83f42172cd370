"""Where a slide's file lies and when it was last changed: beside its manifest, not in it.

The manifest describes the slide's content, so that a slide that is touched or moved, and indexed
again, leaves the same manifest behind, and nothing that rests on it is made anew.
"""

import json
import os
from pathlib import Path

from slideunet import store
from slideunet.errors import SlideError, UserError
from slideunet.readers.files import slide_files

NAME = "source.json"
# What indexing leaves beside its manifest.
FILES = ("thumbnail.png", "tissue.geojson")


def write_source(folder: Path, path: str, mtime_ns: int, identity: dict | None, stat: dict) -> None:
    """Write NAME into the folder.

    path : of the slide, as the table gives it; mtime_ns : latest time of the files it consists of
    identity : what rule index was told of it (slide_identity.py); stat : what slide_stat says of it
    """
    content = {"identity": identity, "mtime_ns": mtime_ns, "path": path, "stat": stat}
    store.write_file(folder / NAME, store.to_json(content))


def load_slide(manifest: str | Path) -> dict:
    """Facts of a slide's manifest, with `path` and `mtime_ns` of its file, and `index_mb`.

    `path` is what is to be read: the copy beside the manifest where there is one (index.copy).
    `index_mb` is the memory that it was indexed with, MB (index.mem_mb). Raises UserError as
    store.load does, and where NAME is not there.
    """
    content = store.load(manifest)
    facts = {**content["facts"], "index_mb": content["settings"]["index"]["mem_mb"]}
    path = store.beside(manifest, NAME)
    try:
        found = {**facts, **json.loads(path.read_bytes())}
    except (OSError, ValueError):
        raise UserError(
            f"{path}: missing or damaged: remove {manifest} and call again to index the slide anew"
        ) from None
    if facts.get("copy"):
        found["path"] = str(store.beside(manifest, facts["copy"]))
    return found


def check_unchanged(facts: dict) -> None:
    """Raise SlideError unless the slide's files have the size and time they were indexed with.

    facts : of `load_slide`. To be called before any pixel is read: what was found in a slide does
    not fit the pixels of another.
    """
    path = facts["path"]
    if facts.get("copy"):  # its files were checked with their manifest
        return
    try:
        found = [os.stat(file) for file in slide_files(path)]
    except FileNotFoundError as error:
        raise SlideError(f"{error.filename}: the slide is gone since it was indexed") from None
    size, latest = sum(s.st_size for s in found), max(s.st_mtime_ns for s in found)
    if (size, latest, len(found)) != (facts["size_bytes"], facts["mtime_ns"], facts["files"]):
        raise SlideError(f"{path}: the slide has changed since it was indexed: index it again")
