"""Objects of one slide: label image, table, outlines, summary, fields to annotate next."""

from pathlib import Path

import numpy as np

from slideunet import ngff, store
from slideunet.arrays import open_group
from slideunet.columns import object_columns
from slideunet.entropy import fields_geojson, rank_fields
from slideunet.geojson import Style, qupath_placement, write_geojson
from slideunet.label_pyramid import create_label_image, write_levels
from slideunet.labels import Instances, Rules, find_instances, write_instances
from slideunet.measure import measure_objects
from slideunet.object_table import write_anndata, write_table
from slideunet.probability import ThresholdedClasses
from slideunet.seeds import Split
from slideunet.signals import Sources
from slideunet.slide_array import open_array, scale_of
from slideunet.slide_file import load_slide
from slideunet.store import Work, make
from slideunet.summary import summarize

STORE, TABLE, OUTLINES = "objects.ome.zarr", "objects.parquet", "objects.geojson.gz"
NEXT = "annotate_next.geojson"
# As many fields as an hour of annotation may cover.
NEXT_FIELDS = 10
NEXT_RGB = (255, 0, 255)


def objects(*, slide: str, segmentation: str, manifest: str, settings: dict, code: dict) -> None:
    """Make objects.ome.zarr, objects.parquet and objects.geojson.gz beside objects.json.

    slide, segmentation : manifests of stages index and segment
    settings : section objects and the list classes

    Also annotate_next.geojson, the fields with the highest predictive entropy, and, by
    objects.also, objects.csv and objects.h5ad. facts : count, summary, number type of the labels.
    """

    def build(work: Work) -> tuple[list[str], dict]:
        facts = load_slide(slide)
        segmented = store.load(segmentation)["facts"]
        found = open_group(store.beside(segmentation, "segmentation.ome.zarr"))
        options = settings["objects"]
        if options["source"] == "classes":
            map_of_objects = found["labels/classes/0"]
        else:
            map_of_objects = ThresholdedClasses(found["0"], options["threshold"])
        instances = find_instances(
            map_of_objects, rules_of(options), block_px=options["block_px"],
            probabilities=found["0"],
        )  # fmt: skip
        levels = create_label_image(
            work.folder / STORE, instances.shape, instances.dtype, segmented["pixel_um"]
        )
        write_instances(instances, map_of_objects, levels[0], probabilities=found["0"])
        write_levels(levels)
        names = _write_files(
            work.folder, instances, levels[0], found["0"], facts, segmented, settings
        )
        area_um2 = (facts["quality"]["tissue_mm2"] or 0) * 1e6
        pixel_um = segmented["pixel_um"]
        row = summarize(
            instances.area_px, instances.class_of, settings["classes"],
            mpp_um=pixel_um, tissue_area_um2=area_um2 or None,
        )  # fmt: skip
        return [STORE, *names], {"objects": len(instances), "summary": row}

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


def _write_files(
    folder: Path, instances: Instances, labels, probabilities, slide: dict, segmented: dict,
    settings: dict,
) -> list[str]:  # fmt: skip
    """Table, outlines and the fields to annotate next; returns the files' names."""
    options, classes = settings["objects"], settings["classes"]
    last_row = instances.last_row
    scale_yx = scale_of(slide, segmented)
    names = [TABLE, OUTLINES, NEXT]
    csv = folder / "objects.csv" if "csv" in options["also"] else None
    with open_array(slide, scale_yx) as image:
        channels = tuple(slide["channels"])
        stains = channels == ("red", "green", "blue") and image.dtype == np.uint8
        sources = Sources(image, channels, stains, probabilities=probabilities)
        batches = measure_objects(
            labels, last_row, instances.class_of, class_names=classes,
            mpp_um=segmented["pixel_um"], sources=sources, block_px=options["block_px"],
        )  # fmt: skip
        columns = object_columns(list(channels), stains=stains, probabilities=True)
        write_table(batches, columns, folder / TABLE, csv=csv)
    names += ["objects.csv"] if csv else []
    if "h5ad" in options["also"]:
        write_anndata(folder / TABLE, folder / "objects.h5ad")
        names.append("objects.h5ad")
    placement = qupath_placement(scale_yx, slide["bounds"])
    styles = {
        number: Style(name, tuple(bytes.fromhex(ngff.colour(number))))
        for number, name in enumerate(classes)
        if number
    }
    write_geojson(
        folder / OUTLINES, labels, last_row, instances.class_of, styles, placement=placement,
        tolerance_px=options["simplify_px"], block_px=options["block_px"],
    )  # fmt: skip
    fields = rank_fields(probabilities, options["field_px"], NEXT_FIELDS)
    text = fields_geojson(fields, placement, Style("annotate next", NEXT_RGB))
    (folder / NEXT).write_text(text)
    return names
