"""Download and check the demo's sample images; lay out its slide."""

from slideunet.job import job
from slideunet.stages.demo import demo

if __name__ == "__main__":
    with job(log_file=snakemake.log[0], threads=snakemake.threads):
        demo(
            manifest=snakemake.output.manifest,
            wheels=snakemake.params.wheels,
            settings=snakemake.params.settings,
            code=snakemake.params.code,
        )
