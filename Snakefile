"""unet-slides: train the U-Net on a few annotated images, segment whole slides with it."""

from snakemake.utils import min_version

min_version("9.27")


configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/cluster.smk"
include: "workflow/rules/demo.smk"
include: "workflow/rules/ingest.smk"
include: "workflow/rules/weights.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/preview.smk"
include: "workflow/rules/segment.smk"
include: "workflow/rules/objects.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/export.smk"


rule all:
    """Everything: models evaluated, slides segmented, tables; fails if a slide failed."""
    default_target: True
    input:
        evaluation=f"{RESULTS}/evaluation/summary.tsv",
        preview=[f"{RESULTS}/evaluation/unlabelled.json"] if UNLABELLED else [],
        archive=f"{RESULTS}/archive.tsv",
        morning=f"{RESULTS}/morning.html",
        verdict=f"{RESULTS}/verdict.txt",
        # by name, so that one that is removed is made anew even where nothing lacks it
        manifests=all_manifests(),
