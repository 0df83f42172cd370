# One network for each entry of `models` in the configuration, or one made elsewhere.
# Needs: RESULTS/images/ID.json and RESULTS/weights/ID.json of its splits; the model card that
#        train.start_from names, or that `model` names.
# Makes: RESULTS/models/NAME/train.json with model.safetensors, history.tsv, curves.png; beside them
#        model.json (the model card) and events/ (TensorBoard);
#        RESULTS/models/imported/import_model.json with model.safetensors; beside it model.json.


rule train:
    """Train one network; a cut-off training goes on from its last checkpoint."""
    input:
        images=partial(images_of, "images", "train_on"),
        weights=partial(images_of, "weights", "train_on"),
        validation_images=partial(images_of, "images", "test_on"),
        validation_weights=partial(images_of, "weights", "test_on"),
        start=start_of,
    output:
        manifest=f"{RESULTS}/models/{{model}}/train.json",
        curves=report(
            f"{RESULTS}/models/{{model}}/curves.png",
            category="Training",
            labels={"model": "{model}", "what": "learning curves"},
        ),
    log:
        f"{LOGS}/train/{{model}}.log",
    benchmark:
        f"{BENCHMARKS}/train/{{model}}.tsv"
    priority: longest_first.TRAINING
    conda:
        ENVIRONMENT
    threads: lambda wildcards: train_processes(wildcards) * train_threads(wildcards)
    resources:
        gpu=lambda wildcards: GPUS * train_processes(wildcards),
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=lambda wildcards, attempt: 480 * attempt,
    params:
        settings=model_settings,
        code=code_of("train.py"),
    script:
        "../scripts/train.py"


rule import_model:
    """Check a model made elsewhere and copy it beside the results that it makes."""
    input:
        card=config["model"] or [],
    output:
        manifest=f"{RESULTS}/models/imported/import_model.json",
    log:
        f"{LOGS}/import_model/import_model.log",
    benchmark:
        f"{BENCHMARKS}/import_model/import_model.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 20 * attempt,
    params:
        code=code_of("import_model.py"),
    script:
        "../scripts/import_model.py"
