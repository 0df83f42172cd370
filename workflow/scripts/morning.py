"""Write the morning report."""

from slideunet.job import job
from slideunet.stages.morning import morning

if __name__ == "__main__":
    with job(log_file=snakemake.log[0], threads=snakemake.threads):
        morning(
            results=snakemake.params.results,
            models=list(snakemake.input.models),
            page=snakemake.output.page,
            config=snakemake.params.configuration,
        )
