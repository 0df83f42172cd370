# What the networks that segment slides see in images that nobody annotated: one page of pictures.
# Needs: the table `unlabelled` and the files that it names; the manifests of the networks that segment.
# Makes: RESULTS/evaluation/unlabelled.json with unlabelled.png.


rule preview:
    """Show all images of the table `unlabelled`, segmented by the mean of the networks."""
    input:
        models=SEGMENT_MODELS,
        images=sorted({row["image"] for row in UNLABELLED.values()}),
    output:
        manifest=f"{RESULTS}/evaluation/unlabelled.json",
        picture=report(
            f"{RESULTS}/evaluation/unlabelled.png",
            category="Evaluation",
            labels={"model": "mean of segment.models", "what": "images without truth"},
        ),
    log:
        f"{LOGS}/preview/unlabelled.log",
    benchmark:
        f"{BENCHMARKS}/preview/unlabelled.tsv"
    conda:
        ENVIRONMENT
    threads: config["segment"]["threads"]
    resources:
        gpu=GPUS,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        # a function: of a text Snakemake would put wildcards in the place of {names}
        settings=lambda wildcards: parameters.as_text(
            settings.in_order({"rows": UNLABELLED, "averaging": config["segment"]["averaging"]})
        ),
        code=code_of("preview.py"),
    script:
        "../scripts/preview.py"
