"""Look at one slide: what it is, where its tissue lies, how its grey values spread."""

from slideunet.job import job
from slideunet.stages.index import index

if __name__ == "__main__":
    with job(log_file=snakemake.log[0], threads=snakemake.threads):
        index(
            slide=snakemake.params.slide,
            tissue=snakemake.input.tissue,
            manifest=snakemake.output.manifest,
            settings=snakemake.params.settings,
            code=snakemake.params.code,
            identity=snakemake.params.identity,
        )
