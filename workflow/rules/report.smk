# Where the night stands: one row for each slide, the failures, the exit status.
# Needs: all manifests of all slides; RESULTS/evaluation/summary.tsv.
# Makes: RESULTS/archive.tsv, RESULTS/failures.tsv; RESULTS/timing.tsv, where segmentation's time went;
#        RESULTS/morning.html, all that on one page with pictures, networks and provenance;
#        RESULTS/verdict.txt only if no slide failed (with the measured accuracy).


rule archive:
    """Gather a row for each slide, and a table of those that failed."""
    input:
        slides=slide_manifests("slide"),
        segmentations=slide_manifests("segmentation"),
        objects=slide_manifests("objects"),
        overlays=slide_manifests("overlay"),
        accuracies=accuracy_manifests(),
    output:
        archive=report(f"{RESULTS}/archive.tsv", caption="../report/archive.rst", category="Slides"),
        failures=report(
            f"{RESULTS}/failures.tsv", caption="../report/failures.rst", category="Slides"
        ),
        timing=report(f"{RESULTS}/timing.tsv", caption="../report/timing.rst", category="Slides"),
    log:
        f"{LOGS}/archive/archive.log",
    benchmark:
        f"{BENCHMARKS}/archive/archive.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        results=lambda wildcards, output: str(Path(output.archive).parent),
        slides=sorted(SLIDES),
        # a function: of a text Snakemake would put wildcards in the place of {names}
        refused=lambda wildcards: parameters.as_text(settings.in_order(REFUSED)),
        code=code_of("archive.py"),
    script:
        "../scripts/archive.py"


rule morning:
    """Write the morning report: one page, nothing beside it is needed to read it."""
    input:
        archive=f"{RESULTS}/archive.tsv",
        failures=f"{RESULTS}/failures.tsv",
        timing=f"{RESULTS}/timing.tsv",
        slides=slide_manifests("slide"),
        overlays=slide_manifests("overlay"),
        evaluation=f"{RESULTS}/evaluation/summary.tsv",
        models=ALL_MODELS,
    output:
        page=report(f"{RESULTS}/morning.html", caption="../report/morning.rst", category="Slides"),
    log:
        f"{LOGS}/morning/morning.log",
    benchmark:
        f"{BENCHMARKS}/morning/morning.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1500,
        runtime=60,
    params:
        results=lambda wildcards, output: str(Path(output.page).parent),
        # a function of output: what changes a result makes a new page all the same
        configuration=lambda wildcards, output: parameters.as_text(config),
        page=page_digests(),
        code=code_of("morning.py"),
    script:
        "../scripts/morning.py"


rule verdict:
    """Turn failed slides into a failed run: the last thing that happens."""
    input:
        archive=f"{RESULTS}/archive.tsv",
        failures=f"{RESULTS}/failures.tsv",
        evaluation=f"{RESULTS}/evaluation/summary.tsv",
    output:
        verdict=f"{RESULTS}/verdict.txt",
    log:
        f"{LOGS}/verdict/verdict.log",
    benchmark:
        f"{BENCHMARKS}/verdict/verdict.tsv"
    retries: 0
    conda:
        ENVIRONMENT
    resources:
        mem_mb=500,
        runtime=5,
    params:
        flattered=settings.flattered_models(config),
        code=code_of("verdict.py"),
    script:
        "../scripts/verdict.py"


# A job that was killed on its last attempt left no manifest: enter it, and say where the night
# stands, even though rules archive and morning could not run.
onerror:
    slide_failures.close(RESULTS, sorted(SLIDES), REFUSED)
    if SLIDES or REFUSED:
        from slideunet.stages.morning import morning

        page = f"{RESULTS}/morning.html"
        morning(results=RESULTS, models=ALL_MODELS, page=page, config=config)
