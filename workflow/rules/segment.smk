# Overlap-tile inference over each slide, in place.
# Needs: RESULTS/slides/ID/slide.json (and the slide it speaks of), RESULTS/models/NAME/train.json
#        (of a model made elsewhere: RESULTS/models/imported/import_model.json).
# Makes: RESULTS/slides/ID/segmentation.json with segmentation.ome.zarr (OME-Zarr):
#        0, 1, ... (classes, Y, X) uint8 probabilities, 255 = 1.0; labels/classes/0, 1, ... (Y, X)
#        uint8 class map; chunks of chunk_px, shards of shard_px; segmentation.timing.json.
#        A slide in n > 1 parts: RESULTS/slides/ID/parts/K-of-N.json with K-of-N.ome.zarr, the rows
#        of shards of one part; the files of the joined store are further names of the same bytes.


# How a result is computed changes no byte of it: not among the settings, which rerun what they shape.
SEGMENT_SETTINGS = settings.without(config_of("segment"), "segment", ("parts", "scheduler"))


wildcard_constraints:
    part="[0-9]+",
    parts="[0-9]+",


rule segment:
    """Segment one slide, or join its parts; a cut-off job goes on after the last finished shard."""
    input:
        slide=f"{RESULTS}/slides/{{slide}}/slide.json",
        models=SEGMENT_MODELS,
        parts=parts_of,
    output:
        manifest=f"{RESULTS}/slides/{{slide}}/segmentation.json",
    log:
        f"{LOGS}/segment/{{slide}}.log",
    benchmark:
        f"{BENCHMARKS}/segment/{{slide}}.tsv"
    priority: slide_bytes
    conda:
        ENVIRONMENT
    threads: config["segment"]["threads"]
    resources:
        gpu=GPUS,
        mem_mb=lambda wildcards, attempt: config["segment"]["mem_mb"] * attempt,
        runtime=lambda wildcards, input, attempt: job_limits.minutes(
            job_limits.pixels_of(input.slide), job_limits.SEGMENT_PX_PER_S, 30, attempt
        ),
    params:
        settings=SEGMENT_SETTINGS,
        # A function of the threads: Snakemake does not compare what it returns.
        scheduler=lambda wildcards, threads: config["segment"]["scheduler"],
        scratch=lambda wildcards, threads: config["scratch"],
        code=code_of("segment.py"),
    script:
        "../scripts/segment.py"


rule segment_part:
    """Compute one part of a slide: rows of shards, in a job of its own."""
    input:
        slide=f"{RESULTS}/slides/{{slide}}/slide.json",
        models=SEGMENT_MODELS,
    output:
        manifest=f"{RESULTS}/slides/{{slide}}/parts/{{part}}-of-{{parts}}.json",
    log:
        f"{LOGS}/segment_part/{{slide}}-{{part}}-of-{{parts}}.log",
    benchmark:
        f"{BENCHMARKS}/segment_part/{{slide}}-{{part}}-of-{{parts}}.tsv"
    priority: slide_bytes
    conda:
        ENVIRONMENT
    threads: config["segment"]["threads"]
    resources:
        gpu=GPUS,
        mem_mb=lambda wildcards, attempt: config["segment"]["mem_mb"] * attempt,
        runtime=lambda wildcards, input, attempt: job_limits.minutes(
            job_limits.pixels_of(input.slide) // int(wildcards.parts),
            job_limits.SEGMENT_PX_PER_S,
            30,
            attempt,
        ),
    params:
        settings=SEGMENT_SETTINGS,
        scheduler=lambda wildcards, threads: config["segment"]["scheduler"],
        scratch=lambda wildcards, threads: config["scratch"],
        part=lambda wildcards: int(wildcards.part),
        n_parts=lambda wildcards: int(wildcards.parts),
        code=code_of("segment_part.py"),
    script:
        "../scripts/segment_part.py"
