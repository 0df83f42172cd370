# From pixels to cells: instances, their measurements and outlines, pictures.
# Needs: RESULTS/slides/ID/slide.json and segmentation.json.
# Makes: RESULTS/slides/ID/objects.json with objects.ome.zarr (instance labels (Y, X)),
#            objects.parquet (a row for each object), objects.geojson.gz (outlines for QuPath),
#            annotate_next.geojson (fields to annotate next);
#        RESULTS/slides/ID/overlay.json with pictures/: overlay.png, field_1.jpg ..., density.png;
#        RESULTS/slides/ID/accuracy.json where the slide table names a reference label image.


rule objects:
    """Number the objects of one slide, measure and outline them."""
    input:
        slide=f"{RESULTS}/slides/{{slide}}/slide.json",
        segmentation=f"{RESULTS}/slides/{{slide}}/segmentation.json",
    output:
        manifest=f"{RESULTS}/slides/{{slide}}/objects.json",
    log:
        f"{LOGS}/objects/{{slide}}.log",
    benchmark:
        f"{BENCHMARKS}/objects/{{slide}}.tsv"
    priority: slide_bytes
    conda:
        ENVIRONMENT
    threads: config["objects"]["threads"]
    resources:
        mem_mb=lambda wildcards, input, attempt: job_limits.objects_mb(
            job_limits.pixels_of(input.slide), attempt
        ),
        runtime=lambda wildcards, input, attempt: job_limits.minutes(
            job_limits.pixels_of(input.slide), job_limits.OBJECTS_PX_PER_S, 20, attempt
        ),
    params:
        # the threads change no byte, so no rerun either
        settings=settings.without(config_of("classes", "objects"), "objects", ("threads",)),
        # a function of the threads, which Snakemake does not compare: it changes no byte
        scratch=lambda wildcards, threads: config["scratch"],
        code=code_of("objects.py"),
    script:
        "../scripts/objects.py"


rule overlay:
    """Draw the objects' outlines on the slide's thumbnail and densest fields, and their density."""
    input:
        slide=f"{RESULTS}/slides/{{slide}}/slide.json",
        objects=f"{RESULTS}/slides/{{slide}}/objects.json",
        segmentation=f"{RESULTS}/slides/{{slide}}/segmentation.json",
    output:
        manifest=f"{RESULTS}/slides/{{slide}}/overlay.json",
        # a folder: a slide has as many fields as it has objects for, one that failed has none
        pictures=report(
            directory(f"{RESULTS}/slides/{{slide}}/pictures"),
            patterns=["{picture}.png", "{picture}.jpg"],
            caption="../report/overlay.rst",
            category="Slides",
            labels={"slide": "{slide}", "picture": "{picture}"},
        ),
    log:
        f"{LOGS}/overlay/{{slide}}.log",
    benchmark:
        f"{BENCHMARKS}/overlay/{{slide}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        settings=config_of("overlay"),
        code=code_of("overlay.py"),
    script:
        "../scripts/overlay.py"


rule compare:
    """Measure one slide's objects against a reference label image."""
    input:
        objects=f"{RESULTS}/slides/{{slide}}/objects.json",
        label=reference_label,
    output:
        manifest=f"{RESULTS}/slides/{{slide}}/accuracy.json",
    log:
        f"{LOGS}/compare/{{slide}}.log",
    benchmark:
        f"{BENCHMARKS}/compare/{{slide}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        settings=config_of("evaluate"),
        code=code_of("compare.py"),
    script:
        "../scripts/compare.py"
