"""Objects of one slide: label image, table, outlines, summary, fields to annotate next."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from slideunet import ngff, store
from slideunet.annotations import NEXT_NAME
from slideunet.arrays import open_group
from slideunet.columns import object_columns
from slideunet.entropy import fields_geojson, rank_fields
from slideunet.errors import SlideError
from slideunet.geojson import Placement, Style, qupath_placement, write_geojson
from slideunet.job import stop_if_asked
from slideunet.label_pyramid import SHARD_PX, create_label_image, label_files, write_levels
from slideunet.labels import Instances, Rules, find_instances, write_instances
from slideunet.measure import measure_objects
from slideunet.object_table import write_anndata, write_table
from slideunet.objects_space import estimate, mosaic, sampled_px, windows_of
from slideunet.probability import ThresholdedClasses
from slideunet.scratch import staged
from slideunet.seeds import Split
from slideunet.signals import Sources
from slideunet.slide_array import open_array, scale_of
from slideunet.slide_file import check_unchanged, load_slide
from slideunet.slide_overview import TissueArray, is_stained, load_tissue
from slideunet.space import (
    LABEL_LEAST,
    LABEL_MOST,
    PYRAMID,
    SHARE,
    Estimate,
    Need,
    check_space,
    free_bytes,
    need_of,
    refuse_too_much,
)
from slideunet.store import Work, make
from slideunet.summary import summarize

STORE, TABLE, OUTLINES = "objects.ome.zarr", "objects.parquet", "objects.geojson.gz"
NEXT = "annotate_next.geojson"
# As many fields as an hour of annotation may cover.
NEXT_FIELDS = 10
NEXT_RGB = (255, 0, 255)
# Entropy is scored on every fourth row and column: 4 ns per pixel instead of 17 (measured), and of
# fields of 512 px still 16,384 values each.
NEXT_EVERY_PX = 4
# A field counts from this share of tissue on: in fluorescence the tissue is the cells alone.
NEXT_TISSUE = 0.1


def objects(
    *,
    slide: str,
    segmentation: str,
    manifest: str,
    settings: dict,
    code: dict,
    workers: int = 1,
    scratch: str = "",
) -> None:
    """Make objects.ome.zarr, objects.parquet and objects.geojson.gz beside objects.json.

    slide, segmentation : manifests of stages index and segment
    settings : section objects and the list classes; workers : threads, which change no byte
    scratch : folder of this node that the slide is copied to first; "": it is read in place

    Also annotate_next.geojson, the fields with the highest predictive entropy, and, by
    objects.also, objects.csv and objects.h5ad. facts : objects (their count), summary.
    """

    def build(work: Work) -> tuple[list[str], dict]:
        facts = load_slide(slide)
        check_unchanged(facts)
        segmented = store.load(segmentation)["facts"]
        found = open_group(store.beside(segmentation, "segmentation.ome.zarr"))
        options = settings["objects"]
        need, what = (
            _need(work.folder, found["0"].shape[1:], options),
            f"objects of {facts['path']}",
        )
        refuse_too_much(work.folder, need, what)
        instances = _find(found, options, workers)
        image = partial(open_array, facts, segmented, found["0"])
        made = Made(slide, facts, segmented, instances, None, found, image, settings, workers)
        check_space(work.folder, replace(need, estimate=made.estimate(work.folder, need)), what)
        work.check_owner()  # finding took minutes, and Zarr would make a lost folder anew
        labels = _label(work.folder, instances, found, segmented, options, workers)
        check_unchanged(facts)  # again: finding took minutes
        with staged(facts["path"], scratch, stop_if_asked) as path:
            near = {**facts, "path": path}
            image = partial(open_array, near, segmented, found["0"], workers)
            made = replace(made, labels=labels, facts=near, image=image)
            names = [STORE, *made.write_table(work.folder), *made.write_outlines(work.folder)]
            names += made.write_next(work.folder)
        area_um2 = (facts["quality"]["tissue_mm2"] or 0) * 1e6
        row = summarize(
            instances.area_px, instances.class_of, settings["classes"],
            mpp_um=segmented["pixel_um"], tissue_area_um2=area_um2 or None,
        )  # fmt: skip
        return names, {"objects": len(instances), "summary": row}

    inputs = {"slide": slide, "segmentation": segmentation}
    make(
        manifest, build, kind="objects", settings=settings, code=code, inputs=inputs, slide=True
    )  # fmt: skip


def rules_of(options: dict) -> Rules:
    """What counts as one object, from the config section `objects`."""
    split = None if options["split"] == "none" else Split(options["split"], options["split_depth"])
    return Rules(
        connectivity=options["connectivity"],
        min_area_px=options["min_area_px"],
        max_area_px=options["max_area_px"] or None,
        fill_holes_px=options["fill_holes_px"],
        split=split,
    )


def _need(folder: Path, shape: tuple[int, int], options: dict) -> Need:
    """All files that will be made; bytes of the label image, which the tables come on top of."""
    paths = [f"{STORE}/{path}" for path in label_files(shape)]
    paths += [TABLE, OUTLINES, NEXT, *(f"objects.{kind}" for kind in options["also"])]
    return need_of(folder, paths, int(shape[0] * shape[1] * PYRAMID), LABEL_LEAST, LABEL_MOST)


def _classes_of(found, options: dict):
    """What objects are found in: array-like (Y, X) uint8."""
    if options["source"] == "classes":
        return found["labels/classes/0"]
    return ThresholdedClasses(found["0"], options["threshold"])


def _find(found, options: dict, workers: int) -> Instances:
    """The first pass: which objects there are."""
    return find_instances(
        _classes_of(found, options), rules_of(options), block_px=options["block_px"],
        probabilities=found["0"], workers=workers,
    )  # fmt: skip


def _label(folder: Path, instances, found, segmented: dict, options: dict, workers: int):
    """The second pass, and the pyramid; returns the label image."""
    levels = create_label_image(
        folder / STORE, instances.shape, instances.dtype, segmented["pixel_um"]
    )
    # Two blocks within one shard must not be written at once.
    writers = 1 if options["block_px"] % SHARD_PX else workers
    write_instances(
        instances, _classes_of(found, options), levels[0], probabilities=found["0"],
        workers=writers,
    )  # fmt: skip
    write_levels(levels)
    return levels[0]


@dataclass(frozen=True)
class Made:
    """The labelled slide; each method writes some of its files and returns their names."""

    slide: str
    facts: dict
    segmented: dict
    instances: Instances
    labels: object  # zarr (Y, X); None: not written yet
    found: object  # {"0": probabilities (C, Y, X), "labels/classes/0": class map (Y, X)}
    image: Callable[[], AbstractContextManager]  # opens the slide's pixels, (C, Y, X)
    settings: dict
    workers: int

    def estimate(self, folder: Path, need: Need) -> Estimate | None:
        """Bytes of all files, from a mosaic; None where all may fit and it would cost too much."""
        shape, objects = self.instances.shape, len(self.instances)
        dear = sampled_px(shape) > SHARE * shape[0] * shape[1]
        if not objects or (dear and free_bytes(folder) >= need.bytes_most):
            return None
        windows = windows_of(self.instances)
        try:
            with self.image() as image:
                pixels = mosaic(image, windows)
        except SlideError:  # told where the results are made
            return None
        parts = {key: mosaic(self.found[key], windows, True) for key in ("0", "labels/classes/0")}

        def write(folder: Path, empty: bool) -> Instances:
            folder.mkdir()
            found = {k: np.zeros_like(v) for k, v in parts.items()} if empty else parts
            options = self.settings["objects"]
            instances = _find(found, options, 1)
            labels = _label(folder, instances, found, self.segmented, options, 1)
            made = replace(
                self, instances=instances, labels=labels, found=found,
                image=lambda: nullcontext(pixels), workers=1,
            )  # fmt: skip
            made.write_table(folder)
            made.write_outlines(folder)
            return instances

        return estimate(folder, self.instances, write)

    @property
    def scale_yx(self) -> tuple[float, float]:
        """Level-0 pixels per pixel of the label image."""
        return scale_of(self.facts, self.segmented)

    @property
    def placement(self) -> Placement:
        """From the label image's pixels to QuPath's."""
        return qupath_placement(self.scale_yx, self.facts["bounds"])

    def write_table(self, folder: Path) -> list[str]:
        """objects.parquet and, by objects.also, objects.csv and objects.h5ad."""
        options, channels = self.settings["objects"], tuple(self.facts["channels"])
        stains = is_stained(self.slide, self.facts)
        csv = folder / "objects.csv" if "csv" in options["also"] else None
        with self.image() as image:
            batches = measure_objects(
                self.labels, self.instances.last_row, self.instances.class_of,
                class_names=self.settings["classes"], mpp_um=self.segmented["pixel_um"],
                sources=Sources(image, channels, stains, probabilities=self.found["0"]),
                block_px=options["block_px"], workers=self.workers,
            )  # fmt: skip
            columns = object_columns(list(channels), stains=stains, probabilities=True)
            write_table(batches, columns, folder / TABLE, csv=csv)
        names = [TABLE] + (["objects.csv"] if csv else [])
        if "h5ad" in options["also"]:
            write_anndata(folder / TABLE, folder / "objects.h5ad")
            names.append("objects.h5ad")
        return names

    def write_outlines(self, folder: Path) -> list[str]:
        """objects.geojson.gz."""
        options = self.settings["objects"]
        styles = {
            number: Style(name, tuple(bytes.fromhex(ngff.colour(number))))
            for number, name in enumerate(self.settings["classes"])
            if number
        }
        write_geojson(
            folder / OUTLINES, self.labels, self.instances.last_row, self.instances.class_of,
            styles, placement=self.placement, tolerance_px=options["simplify_px"],
            block_px=options["block_px"], workers=self.workers,
        )  # fmt: skip
        return [OUTLINES]

    def write_next(self, folder: Path) -> list[str]:
        """annotate_next.geojson."""
        tissue = load_tissue(self.slide, self.facts)
        covered = tissue and TissueArray(tissue, self.instances.shape, self.scale_yx)
        # Of several models the mean is stored, and its entropy is the models' mean entropy plus
        # their disagreement (Houlsby et al. 2011): fields that they differ on rank high by it too.
        fields = rank_fields(
            self.found["0"], self.settings["objects"]["field_px"], NEXT_FIELDS, tissue=covered,
            tissue_fraction=NEXT_TISSUE, every_px=NEXT_EVERY_PX,
        )  # fmt: skip
        text = fields_geojson(fields, self.placement, Style(NEXT_NAME, NEXT_RGB))
        (folder / NEXT).write_text(text)
        return [NEXT]
