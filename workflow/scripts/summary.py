"""One row for each network, one for each group of networks."""

from slideunet.job import job
from slideunet.stages.summary import summary

if __name__ == "__main__":
    with job(log_file=snakemake.log[0], threads=snakemake.threads):
        summary(
            evaluations=list(snakemake.input.evaluations),
            table=snakemake.output.table,
            groups_table=snakemake.output.groups,
            groups=snakemake.params.settings,
        )
