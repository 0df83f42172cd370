"""Indexing of one slide: a look before the night, nothing copied."""

import os

from slideunet.guard import index_slide_guarded
from slideunet.slide_file import NAME, write_source
from slideunet.slides import FILES
from slideunet.store import Work, make


def index(*, slide: str, tissue: str | list, manifest: str, settings: dict, code: dict) -> None:
    """Index a slide: thumbnail.png and tissue.geojson beside the manifest slide.json.

    tissue : the user's own outlines (GeoJSON), an empty list for none
    settings : sections index and intensity, mpp_um of the slide's table row or None

    Decoding happens in a child process with limits (index.mem_mb, index.seconds): a slide that
    can't be read, or breaks a decoder, ends as a manifest with `status: failed`.
    """
    inputs = {"tissue": tissue} if tissue else {}

    def build(work: Work) -> tuple[list[str], dict]:
        facts = index_slide_guarded(
            slide,
            settings,
            work.folder,
            tissue or None,
            mem_mb=settings["index"]["mem_mb"],
            seconds=settings["index"]["seconds"],
        )
        write_source(work.folder, os.fspath(slide), facts.pop("mtime_ns"))
        work.unlisted.append(NAME)
        return list(FILES), facts

    make(
        manifest, build, kind="index", settings=settings, code=code, inputs=inputs, slide=True
    )  # fmt: skip
