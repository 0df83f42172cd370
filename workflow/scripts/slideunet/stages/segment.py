"""Segmentation of one slide, whole or in parts."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from slideunet import model, parts, store, timing
from slideunet.device import choose_device
from slideunet.engine import Member
from slideunet.ensemble import check_ensemble
from slideunet.errors import UserError
from slideunet.geometry import Window
from slideunet.job import stop_if_asked
from slideunet.model import Description
from slideunet.scratch import staged
from slideunet.segmentation import Request, segment_slide
from slideunet.shard_store import NAME, ShardStore
from slideunet.slide_file import check_unchanged, load_slide
from slideunet.slide_overview import load_tissue
from slideunet.slide_source import limits_of, open_source, scale_of_facts
from slideunet.store import Work, make
from slideunet.tissue_mask import Tissue

log = logging.getLogger("unet-slides")

# Decoding takes less than a tenth of a base-16 network's time: one process for so many cores.
READERS_PER = 8


def segment(
    *,
    slide: str,
    models: list[str],
    manifest: str,
    settings: dict,
    code: dict,
    gpus: int = 0,
    mem_mb: int | None = None,
    scheduler: str = "",
    scratch: str = "",
    part_manifests: list[str] | None = None,
) -> None:
    """Segment a slide into segmentation.ome.zarr beside the manifest segmentation.json.

    slide : manifest of stage index; models : manifests of stage train (of several: their mean)
    settings : section `segment`; mem_mb : what `tile_px: auto` plans for, segment.mem_mb if None
    scheduler : address of a dask.distributed cluster that computes; "": this process does
    scratch : folder of this node that the slide is copied to first; "": it is read in place
    part_manifests : of `segment_part`, all n of them: their shards are joined, not computed

    The manifest is the same for any number of parts. segmentation.timing.json beside it, not listed
    in the manifest, holds seconds and rates. A slide that can't be segmented ends as a manifest
    with `status: failed`. Raises Stopped once a signal asked for it; the same call then goes on
    after the last finished shard.
    """
    slide, models, manifest = _places(slide, models, manifest, scheduler)
    found: list[dict] = []

    def build(work: Work) -> tuple[list[str], dict]:
        near = "" if part_manifests or scheduler else scratch  # others read it, or nobody
        with _opened(slide, near) as seen:
            request = _request(
                work, seen, slide, models, settings["segment"], gpus, mem_mb, scheduler
            )
            if part_manifests:
                joined = ShardStore(
                    work.folder, request.settings["shard_px"], request.settings["ngff"]
                )
                request = replace(request, run=parts.adopt(joined, part_manifests))
            facts, own = segment_slide(request, work.folder)
        found.append(own)
        return [NAME], facts

    make(
        manifest, build, kind="segment", settings=settings, code=code, slide=True,
        inputs={"slide": slide, "models": models},
    )  # fmt: skip
    found += [t for part in part_manifests or [] if (t := timing.read(parts.timing_path(part)))]
    if found:
        store.write_file(store.beside(manifest, timing.NAME), store.to_json(timing.together(found)))


def segment_part(
    *,
    slide: str,
    models: list[str],
    manifest: str,
    settings: dict,
    code: dict,
    part: int,
    n_parts: int,
    gpus: int = 0,
    mem_mb: int | None = None,
    scheduler: str = "",
    scratch: str = "",
) -> None:
    """Compute part `part` (from 1) of `n_parts` of a slide: rows of shards, without the pyramid.

    Makes STEM.ome.zarr beside the manifest STEM.json; otherwise as `segment`, which joins them.
    """
    slide, models, manifest = _places(slide, models, manifest, scheduler)
    name = f"{Path(manifest).stem}.ome.zarr"
    found: list[dict] = []

    def build(work: Work) -> tuple[list[str], dict]:
        rows = part - 1, n_parts
        with _opened(slide, "" if scheduler else scratch) as seen:
            request = _request(
                work, seen, slide, models, settings["segment"], gpus, mem_mb, scheduler
            )
            facts, own = segment_slide(replace(request, part=rows, name=name), work.folder)
        found.append(own)
        written = ShardStore(
            work.folder, request.settings["shard_px"], request.settings["ngff"], name
        )
        return [name], {**facts, "shards": parts.shards_of_part(written, rows)}

    make(
        manifest, build, kind="segment_part", code=code, slide=True,
        settings={**settings, "part": [part, n_parts]}, inputs={"slide": slide, "models": models},
    )  # fmt: skip
    if found:
        store.write_file(parts.timing_path(manifest), store.to_json(found[0]))


def _places(
    slide: str, models: list[str], manifest: str, scheduler: str
) -> tuple[str, list[str], str]:
    """The three paths, absolute where the workers of a cluster, in other folders, use them."""
    if not scheduler:
        return slide, models, manifest
    return os.path.abspath(slide), [os.path.abspath(m) for m in models], os.path.abspath(manifest)


@contextmanager
def _opened(slide: str, scratch: str) -> Iterator[dict]:
    """The slide's facts, checked; `path` is that of its copy on this node, where one is wanted."""
    facts = load_slide(slide)
    check_unchanged(facts)
    with staged(facts["path"], scratch, stop_if_asked) as path:
        yield {**facts, "path": path}


def _request(
    work: Work, facts: dict, slide: str, models: list[str], settings: dict, gpus: int,
    mem_mb: int | None, scheduler: str,
) -> Request:  # fmt: skip
    """Everything about the slide (`facts`) and the models, checked."""
    descriptions = [model.load(path)[1] for path in models]
    first = descriptions[0]
    check_ensemble(models, descriptions)
    if first.mpp_um is None:
        log.warning("the model's pixel size is unknown: the slide goes through unscaled")
    scalings = [
        scaling_of(d, facts["intensity"], m) for d, m in zip(descriptions, models, strict=True)
    ]
    mpp_um = None if facts["mpp_um"] is None else tuple(facts["mpp_um"])
    path = os.path.abspath(facts["path"]) if scheduler else facts["path"]
    scale_yx = scale_of_facts(facts, first.mpp_um)
    device = choose_device(gpus)
    return Request(
        open_source=partial(
            open_source,
            path,
            mpp_um,
            first.mpp_um,
            settings["on_bad_tile"] == "mask",
            children_for(device.type, settings["threads"]),
            limits_of(facts),
        ),
        open_members=partial(load_members, models, scalings),
        classes=first.classes,
        pixel_um=None
        if mpp_um is None
        else tuple(m * s for m, s in zip(mpp_um, scale_yx, strict=True)),
        settings=settings,
        device=device,
        mem_mb=mem_mb or settings["mem_mb"],
        has_tissue=tissue_of(slide, facts, scale_yx),
        check_owner=work.check_owner,
        stop=stop_if_asked,
        scheduler=scheduler,
    )


def children_for(device: str, threads: int) -> int:
    """Processes that decode: on a CPU one keeps up with many cores, a GPU wants as many as go."""
    return threads if device == "cuda" else 1 + threads // READERS_PER


def load_members(models: list[str], scalings: list[dict]) -> list[Member]:
    """The networks, float32 on the CPU, each with its scaling of grey values."""
    return [Member(model.load(m)[0], s) for m, s in zip(models, scalings, strict=True)]


def scaling_of(description: Description, intensity: dict, path: str) -> dict:
    """{"low": [per channel], "high": [...]}: of the training set, or of this slide as indexed."""
    wanted = description.normalisation
    if wanted["scope"] == "training":
        return {"low": wanted["low"], "high": wanted["high"]}
    for key in ("low_percentile", "high_percentile"):
        if wanted[key] != intensity[key]:
            raise UserError(
                f"{path}: trained with intensity.{key} {wanted[key]}, the slide was indexed with "
                f"{intensity[key]}: set it to {wanted[key]}"
            )
    if intensity["low"] is None:  # no tissue: nothing will be computed
        return {"low": [0.0] * description.channels, "high": [1.0] * description.channels}
    return {"low": intensity["low"], "high": intensity["high"]}


@dataclass(frozen=True)
class HasTissue:
    """Whether a window, in pixels of the models' size, touches tissue."""

    tissue: Tissue
    scale_yx: tuple[float, float]

    def __call__(self, window: Window) -> bool:
        y, x = self.scale_yx
        return self.tissue.tissue_in(
            window.y * y, window.x * x, window.height * y, window.width * x
        )


def tissue_of(
    slide: str, facts: dict, scale_yx: tuple[float, float]
) -> Callable[[Window], bool] | None:
    """Where there is tissue, from tissue.geojson beside the slide's manifest; None: everywhere."""
    tissue = load_tissue(slide, facts)
    return None if tissue is None else HasTissue(tissue, scale_yx)
