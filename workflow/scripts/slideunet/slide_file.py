"""Where a slide's file lies and when it was last changed: beside its manifest, not in it.

The manifest describes the slide's content, so that a slide that is touched or moved, and indexed
again, leaves the same manifest behind, and nothing that rests on it is made anew.
"""

import json
from pathlib import Path

from slideunet import store
from slideunet.errors import UserError

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
    """Facts of a slide's manifest, with `path` and `mtime_ns` of its file.

    `path` is what is to be read: the copy beside the manifest where there is one (index.copy).
    Raises UserError as store.load does, and where NAME is not there.
    """
    facts = store.load(manifest)["facts"]
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
