"""Check a model made elsewhere and copy it beside the results that it makes."""

from slideunet.job import job
from slideunet.stages.import_model import import_model

if __name__ == "__main__":
    with job(log_file=snakemake.log[0], threads=snakemake.threads):
        import_model(
            card=snakemake.input.card,
            manifest=snakemake.output.manifest,
            code=snakemake.params.code,
        )
