"""Draw the objects' outlines on the slide."""

from slideunet.job import job
from slideunet.stages.overlay import overlay

if __name__ == "__main__":
    with job(log_file=snakemake.log[0], threads=snakemake.threads):
        overlay(
            slide=snakemake.input.slide,
            objects=snakemake.input.objects,
            segmentation=snakemake.input.segmentation,
            manifest=snakemake.output.manifest,
            settings=snakemake.params.settings,
            code=snakemake.params.code,
        )
