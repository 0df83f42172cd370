"""Compute one part of a slide: rows of shards."""

from slideunet.job import job
from slideunet.stages.segment import segment_part

if __name__ == "__main__":
    with job(log_file=snakemake.log[0], threads=snakemake.params.settings["segment"]["threads"]):
        segment_part(
            slide=snakemake.input.slide,
            models=list(snakemake.input.models),
            manifest=snakemake.output.manifest,
            settings=snakemake.params.settings,
            code=snakemake.params.code,
            part=snakemake.params.part,
            n_parts=snakemake.params.n_parts,
            gpus=snakemake.resources.gpu,
            scheduler=snakemake.params.scheduler,
            scratch=snakemake.params.scratch,
        )
