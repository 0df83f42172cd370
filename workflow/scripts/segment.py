"""Segment one slide, or join its parts."""

from slideunet.job import job
from slideunet.stages.segment import segment

if __name__ == "__main__":
    with job(log_file=snakemake.log[0], threads=snakemake.params.settings["segment"]["threads"]):
        segment(
            slide=snakemake.input.slide,
            models=list(snakemake.input.models),
            manifest=snakemake.output.manifest,
            settings=snakemake.params.settings,
            code=snakemake.params.code,
            gpus=snakemake.resources.gpu,
            scheduler=snakemake.params.scheduler,
            scratch=snakemake.params.scratch,
            part_manifests=list(snakemake.input.parts),
        )
