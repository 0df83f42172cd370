"""Indexing of one slide: a look before the night; nothing is copied unless index.copy says so."""

import os

from slideunet.guard import index_slide_guarded
from slideunet.job import stop_if_asked
from slideunet.slide_file import FILES, NAME, check_unchanged, write_source
from slideunet.slide_stat import stat_of
from slideunet.store import Work, make


def index(
    *,
    slide: str,
    tissue: str | list,
    manifest: str,
    settings: dict,
    code: dict,
    identity: dict | None = None,
) -> None:
    """Index a slide: thumbnail.png and tissue.geojson beside the manifest slide.json.

    tissue : the user's own outlines (GeoJSON), an empty list for none
    settings : sections index and intensity, mpp_um of the slide's table row or None
    identity : size and time that the workflow takes the slide to have; noted beside the manifest

    Decoding happens in a child process with limits (index.mem_mb, index.seconds): a slide that
    can't be read, or breaks a decoder, ends as a manifest with `status: failed`. With index.copy
    the slide is copied into slide.ome.zarr, from which all that follows reads; `copy` among the
    facts names it.
    """
    inputs = {"tissue": tissue} if tissue else {}
    seen = _stat(slide)

    def build(work: Work) -> tuple[list[str], dict]:
        facts = index_slide_guarded(
            slide,
            settings,
            work.folder,
            tissue or None,
            mem_mb=settings["index"]["mem_mb"],
            seconds=settings["index"]["seconds"],
            stop=stop_if_asked,
        )
        as_indexed = {**facts, "path": os.fspath(slide)}
        write_source(work.folder, os.fspath(slide), facts.pop("mtime_ns"), identity, seen)
        work.unlisted.append(NAME)
        if not settings["index"].get("copy"):
            return list(FILES), facts
        name = _copy(slide, settings, work, facts)
        check_unchanged(as_indexed)  # the checksum is to be that of the pixels in the copy
        return [*FILES, name], {**facts, "copy": name}

    # work on a slide that has changed meanwhile must not be taken up again
    code = code | {"slide": seen}
    make(
        manifest, build, kind="index", settings=settings, code=code, inputs=inputs, slide=True
    )  # fmt: skip


def _copy(slide: str, settings: dict, work: Work, facts: dict) -> str:
    # numpy and zarr are loaded by a process that copies, not by one that waits for its child
    from slideunet.readers.remote import RemoteReader
    from slideunet.slide_copy import copy_slide

    limits = {"mem_mb": settings["index"]["mem_mb"], "seconds": settings["index"]["seconds"]}
    mpp_um = None if facts["mpp_um"] is None else tuple(facts["mpp_um"])
    with RemoteReader(slide, **limits) as reader:
        return copy_slide(reader, work.folder, facts["sha256"], mpp_um, stop_if_asked)


def _stat(slide: str) -> dict[str, int] | None:
    try:
        return stat_of(slide)
    except OSError:  # what is wrong is told where it is read
        return None
