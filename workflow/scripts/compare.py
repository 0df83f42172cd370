"""Measure one slide's objects against a reference label image."""

from slideunet.job import job
from slideunet.stages.compare import compare

if __name__ == "__main__":
    with job(log_file=snakemake.log[0], threads=snakemake.threads):
        compare(
            objects=snakemake.input.objects,
            label=snakemake.input.label,
            manifest=snakemake.output.manifest,
            settings=snakemake.params.settings,
            code=snakemake.params.code,
        )
