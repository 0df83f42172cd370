"""Gather a row for each slide, and a table of those that failed."""

from slideunet.job import job
from slideunet.slide_failures import write_tables

if __name__ == "__main__":
    with job(log_file=snakemake.log[0], threads=snakemake.threads):
        write_tables(
            results=snakemake.params.results,
            slides=snakemake.params.slides,
            refused=snakemake.params.refused,
        )
