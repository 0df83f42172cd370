"""A very large slide in n jobs: each computes rows of shards, one more joins them.

A part is an artefact of its own, with a manifest: a store with the metadata of the whole and the
files of its rows, and in the facts what is known about each shard. The joining job links these
files into one store (a second name for the same bytes; a copy where the file system has no links),
checks them against their sha256 as a resumed job does, and goes on from there: only the pyramid is
missing. So n changes no byte.
"""

import errno
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from slideunet.durable import write_file
from slideunet.errors import SlideError
from slideunet.segmentation import RUN, rows_of
from slideunet.shard_store import ShardStore
from slideunet.store import beside, load, read_manifest, to_json

log = logging.getLogger("unet-slides")

# Facts of a part that must be the same in all: shards of other tiles differ in their last bits.
RUN_KEYS = ("device", "precision", "tile_px", "too_large_px")


def shards_of_part(store: ShardStore, part: tuple[int, int]) -> dict[str, dict]:
    """What the markers say about the part's shards, by their key; no times."""
    rows = rows_of(part, store.grid(0)[0])
    markers = {shard.key: store.marker(shard) for shard in store.shards(0) if shard.row in rows}
    return {
        key: {name: value for name, value in marker.items() if name != "seconds"}
        for key, marker in markers.items()
    }


def adopt(store: ShardStore, manifests: Iterable[str | Path]) -> dict:
    """Link the shards of the parts into `store`, which is then resumed; returns its `run`.

    Where a part ran out of memory and took smaller tiles than others, the parts of larger tiles are
    left out, and the joining job computes them anew. Raises SlideError, with its reason, for a part
    that failed, UserError for one that is damaged.
    """
    for manifest in manifests:
        content = read_manifest(Path(manifest))
        if content["status"] == "failed":
            raise SlideError(content["failure"]["reason"])
    parts = [(Path(manifest), load(manifest)) for manifest in manifests]
    runs = [{key: content["facts"][key] for key in RUN_KEYS} for _, content in parts]
    run = min(runs, key=lambda run: (run["tile_px"], to_json(run)))
    if _content_of(store.folder / RUN) == to_json(run):
        return run  # adopted by an earlier attempt
    for folder in (store.path, store.markers):
        shutil.rmtree(folder, ignore_errors=True)
    store.markers.mkdir(parents=True)
    for (manifest, content), own in zip(parts, runs, strict=True):
        if own != run:
            log.warning("%s: computed as %s, not as %s: computed anew", manifest, own, run)
        for entry in content["files"]:
            inside = Path(entry["path"]).relative_to(content["names"][0])
            if own == run or inside.suffix == ".json" or inside.name.startswith(".z"):
                _link(beside(manifest, entry["path"]), store.path / inside)
        for key, marker in content["facts"]["shards"].items() if own == run else ():
            write_file(store.markers / key, to_json({**marker, "seconds": {}}))
    write_file(store.folder / RUN, to_json(run))
    return run


def _content_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def timing_path(manifest: str | Path) -> Path:
    """Where a part's timing stands: beside its manifest."""
    return Path(manifest).with_suffix(".timing.json")


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copyfile(source, target)
