"""Train one network."""

from slideunet.job import job
from slideunet.stages.train import train

if __name__ == "__main__":
    with job(log_file=snakemake.log[0], threads=snakemake.params.settings["train"]["threads"]):
        train(
            images=list(snakemake.input.images),
            weights=list(snakemake.input.weights),
            validation_images=list(snakemake.input.validation_images),
            validation_weights=list(snakemake.input.validation_weights),
            start=snakemake.input.start,
            manifest=snakemake.output.manifest,
            settings=snakemake.params.settings,
            code=snakemake.params.code,
            gpus=snakemake.resources.gpu,
        )
