# How good each network is on images that it was not trained on.
# Needs: RESULTS/models/NAME/train.json; RESULTS/images/ID.json of the model's test_on splits.
# Makes: RESULTS/evaluation/NAME.json and NAME.png (prediction against truth); summary.tsv, a row
#        for each model; groups.tsv, a row for each group of models (folds, seeds).


rule evaluate:
    """Measure one network on the held-out images."""
    input:
        model=f"{RESULTS}/models/{{model}}/train.json",
        images=partial(images_of, "images", "test_on"),
    output:
        manifest=f"{RESULTS}/evaluation/{{model}}.json",
        picture=report(
            f"{RESULTS}/evaluation/{{model}}.png",
            category="Evaluation",
            labels={"model": "{model}", "what": "prediction and truth"},
        ),
    log:
        f"{LOGS}/evaluate/{{model}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate/{{model}}.tsv"
    conda:
        ENVIRONMENT
    threads: config["segment"]["threads"]
    resources:
        gpu=GPUS,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        settings=config_of("evaluate"),
        code=code_of("evaluate.py"),
    script:
        "../scripts/evaluate.py"


rule summary:
    """One row for each network, one for each group of networks."""
    input:
        evaluations=[f"{RESULTS}/evaluation/{model}.json" for model in MODELS],
    output:
        table=report(f"{RESULTS}/evaluation/summary.tsv", category="Evaluation"),
        groups=report(f"{RESULTS}/evaluation/groups.tsv", category="Evaluation"),
    log:
        f"{LOGS}/summary/summary.log",
    benchmark:
        f"{BENCHMARKS}/summary/summary.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=500,
        runtime=10,
    params:
        settings=model_groups(),
        code=code_of("summary.py"),
    script:
        "../scripts/summary.py"
