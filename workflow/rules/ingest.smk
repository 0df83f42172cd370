# Raw files in: training images are copied into Zarr, slides are indexed where they lie.
# Needs: the files that the two tables name.
# Makes: RESULTS/images/ID.json with ID.zarr:
#            image (C, Y, X) as the source, label (Y, X) int32 (-1 not annotated, 0 background),
#            class (Y, X) uint8 (255 not annotated); chunks (1, 512, 512)
#        RESULTS/slides/ID/slide.json with thumbnail.png, tissue.geojson; where index.copy says so,
#        slide.ome.zarr: its levels (C, Y, X) as the source; chunks (1, 512, 512), shards of 4096 px.


rule ingest:
    """Read one annotated image and its label into Zarr."""
    input:
        unpack(training_files),
    output:
        manifest=f"{RESULTS}/images/{{image}}.json",
    log:
        f"{LOGS}/ingest/{{image}}.log",
    benchmark:
        f"{BENCHMARKS}/ingest/{{image}}.tsv"
    priority: longest_first.TRAINING
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 20 * attempt,
    params:
        settings=training_settings,
        code=code_of("ingest.py"),
    script:
        "../scripts/ingest.py"


rule index:
    """Look at one slide: what it is, where its tissue lies, how its grey values spread."""
    input:
        made=slide_made_here,
        tissue=tissue_file,
    output:
        manifest=f"{RESULTS}/slides/{{slide}}/slide.json",
    log:
        f"{LOGS}/index/{{slide}}.log",
    benchmark:
        f"{BENCHMARKS}/index/{{slide}}.tsv"
    priority: slide_bytes
    conda:
        ENVIRONMENT
    resources:
        # the child process that decodes has limits of its own
        mem_mb=lambda wildcards, attempt: (config["index"]["mem_mb"] + 500) * attempt,
        # It is read once for its checksum, at 20 MB/s at least; a copy is written at 10.
        runtime=lambda wildcards, attempt: attempt
        * job_limits.index_minutes(slide_bytes(wildcards), config["index"]["copy"]),
    params:
        settings=slide_settings,
        # a function of output: where the slide lies is no reason to index it again
        slide=lambda wildcards, output: SLIDES[wildcards.slide]["image"],
        identity=identity_of_slide,
        code=code_of("index.py"),
    script:
        "../scripts/index.py"
