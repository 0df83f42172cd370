"""Read one annotated image and its label into Zarr."""

from slideunet.job import job
from slideunet.stages.ingest import ingest

if __name__ == "__main__":
    with job(log_file=snakemake.log[0], threads=snakemake.threads):
        ingest(
            image=snakemake.input.image,
            label=snakemake.input.label,
            manifest=snakemake.output.manifest,
            settings=snakemake.params.settings,
            code=snakemake.params.code,
        )
