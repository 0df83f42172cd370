"""Turn failed slides into a failed run."""

from slideunet.job import job
from slideunet.slide_failures import judge

if __name__ == "__main__":
    with job(log_file=snakemake.log[0], threads=snakemake.threads):
        judge(
            archive=snakemake.input.archive,
            failures=snakemake.input.failures,
            evaluation=snakemake.input.evaluation,
            verdict=snakemake.output.verdict,
            flattered=snakemake.params.flattered,
        )
