# The paper's weight maps, once per image.
# Needs: RESULTS/images/ID.json.
# Makes: RESULTS/weights/ID.json with ID.zarr: target (Y, X) uint8 (class; touching cells separated;
#        255 not annotated), border (Y, X) float32; chunks (512, 512). Class counts in the manifest.


rule weights:
    """Precompute the border term of one image and count its classes."""
    input:
        image=f"{RESULTS}/images/{{image}}.json",
    output:
        manifest=f"{RESULTS}/weights/{{image}}.json",
    log:
        f"{LOGS}/weights/{{image}}.log",
    benchmark:
        f"{BENCHMARKS}/weights/{{image}}.tsv"
    priority: longest_first.TRAINING
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 20 * attempt,
    params:
        settings=settings.in_order(config["weights"]),
        code=code_of("weights.py"),
    script:
        "../scripts/weights.py"
