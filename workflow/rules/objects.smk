# From pixels to cells: instances, their measurements and outlines, pictures.
# Needs: RESULTS/slides/ID/slide.json and segmentation.json.
# Makes: RESULTS/slides/ID/objects.json with objects.ome.zarr (instance labels (Y, X)),
#            objects.parquet (a row for each object), objects.geojson.gz (outlines for QuPath);
#        RESULTS/slides/ID/overlay.json with overlay.png;
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
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 3000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        settings=config_of("objects", "classes"),
        code=code_of("objects.py"),
    script:
        "../scripts/objects.py"


rule overlay:
    """Draw the objects' outlines on the slide's thumbnail and on its densest fields."""
    input:
        slide=f"{RESULTS}/slides/{{slide}}/slide.json",
        objects=f"{RESULTS}/slides/{{slide}}/objects.json",
        segmentation=f"{RESULTS}/slides/{{slide}}/segmentation.json",
    output:
        manifest=f"{RESULTS}/slides/{{slide}}/overlay.json",
        picture=report(
            f"{RESULTS}/slides/{{slide}}/overlay.png",
            category="Slides",
            labels={"slide": "{slide}", "what": "outlines"},
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
