"""Pack one network for other programs, and run it from there to the same output."""

from slideunet.job import job
from slideunet.stages.export import export

if __name__ == "__main__":
    with job(log_file=snakemake.log[0], threads=snakemake.threads):
        export(
            model=snakemake.input.model,
            image=snakemake.input.image,
            evaluation=snakemake.input.evaluation,
            manifest=snakemake.output.manifest,
            settings=snakemake.params.settings,
            code=snakemake.params.code,
        )
