"""Precompute the border term of one image and count its classes."""

from slideunet.job import job
from slideunet.stages.weights import weights

if __name__ == "__main__":
    with job(log_file=snakemake.log[0], threads=snakemake.threads):
        weights(
            image=snakemake.input.image,
            manifest=snakemake.output.manifest,
            settings=snakemake.params.settings,
            code=snakemake.params.code,
        )
