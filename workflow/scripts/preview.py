"""Show what the networks see in images that nobody annotated."""

from slideunet.job import job
from slideunet.stages.preview import preview

if __name__ == "__main__":
    with job(log_file=snakemake.log[0], threads=snakemake.threads):
        preview(
            models=list(snakemake.input.models),
            images=list(snakemake.input.images),
            manifest=snakemake.output.manifest,
            settings=snakemake.params.settings,
            code=snakemake.params.code,
            gpus=snakemake.resources.gpu,
        )
