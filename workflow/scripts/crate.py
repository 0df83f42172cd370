"""Describe a finished run for others."""

from slideunet.job import job
from slideunet.stages.crate import crate

if __name__ == "__main__":
    with job(log_file=snakemake.log[0], threads=snakemake.threads):
        crate(
            artefacts=list(snakemake.input.artefacts),
            tables=list(snakemake.input.tables),
            names=snakemake.params.names,
            project=snakemake.params.project,
            config=snakemake.params.configuration,
            manifest=snakemake.output.manifest,
            settings=snakemake.params.settings,
            code=snakemake.params.code,
        )
