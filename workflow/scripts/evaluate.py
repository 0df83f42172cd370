"""Measure one network on the held-out images."""

from slideunet.job import job
from slideunet.stages.evaluate import evaluate

if __name__ == "__main__":
    with job(log_file=snakemake.log[0], threads=snakemake.threads):
        evaluate(
            model=snakemake.input.model,
            images=list(snakemake.input.images),
            manifest=snakemake.output.manifest,
            settings=snakemake.params.settings,
            code=snakemake.params.code,
            gpus=snakemake.resources.gpu,
        )
