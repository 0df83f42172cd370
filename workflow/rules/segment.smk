# Overlap-tile inference over each slide, in place.
# Needs: RESULTS/slides/ID/slide.json (and the slide it speaks of), RESULTS/models/NAME/train.json.
# Makes: RESULTS/slides/ID/segmentation.json with segmentation.ome.zarr (OME-Zarr):
#        0, 1, ... (classes, Y, X) uint8 probabilities, 255 = 1.0; labels/classes/0, 1, ... (Y, X)
#        uint8 class map; chunks of chunk_px, shards of shard_px; segmentation.timing.json.


rule segment:
    """Segment one slide; a cut-off job goes on after the last finished shard."""
    input:
        slide=f"{RESULTS}/slides/{{slide}}/slide.json",
        models=[f"{RESULTS}/models/{model}/train.json" for model in config["segment"]["models"]],
    output:
        manifest=f"{RESULTS}/slides/{{slide}}/segmentation.json",
    log:
        f"{LOGS}/segment/{{slide}}.log",
    benchmark:
        f"{BENCHMARKS}/segment/{{slide}}.tsv"
    conda:
        ENVIRONMENT
    threads: config["segment"]["threads"]
    resources:
        gpu=GPUS,
        mem_mb=lambda wildcards, attempt: config["segment"]["mem_mb"] * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        settings=config_of("segment"),
        code=code_of("segment.py"),
    script:
        "../scripts/segment.py"
