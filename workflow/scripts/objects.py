"""Number, measure and outline the objects of one slide."""

from slideunet.job import job
from slideunet.stages.objects import objects

if __name__ == "__main__":
    with job(log_file=snakemake.log[0], threads=snakemake.threads):
        objects(
            slide=snakemake.input.slide,
            segmentation=snakemake.input.segmentation,
            manifest=snakemake.output.manifest,
            settings=snakemake.params.settings,
            code=snakemake.params.code,
            workers=snakemake.threads,
            scratch=snakemake.params.scratch,
        )
