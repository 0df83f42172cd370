# Networks go out, on demand: `make export MODEL=main`. No other rule needs what these make.
# Needs: RESULTS/models/NAME/train.json, RESULTS/evaluation/NAME.json, one of its test images; the
#        packages of envs/requirements-export.txt.
# Makes: RESULTS/export/NAME.json with NAME.zip, a bioimage.io model package.

EXPORT_ENVIRONMENT = "../../envs/environment-export.yaml"


rule export:
    """Pack one network for other programs, and run it from there to the same output."""
    input:
        model=f"{RESULTS}/models/{{model}}/train.json",
        evaluation=f"{RESULTS}/evaluation/{{model}}.json",
        image=image_to_show,
    output:
        manifest=f"{RESULTS}/export/{{model}}.json",
    log:
        f"{LOGS}/export/{{model}}.log",
    benchmark:
        f"{BENCHMARKS}/export/{{model}}.tsv"
    wildcard_constraints:
        model="|".join(MODELS) or "(?!)",
    conda:
        EXPORT_ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 20 * attempt,
    params:
        settings=config_of("publication"),
        code=code_of("export.py"),
    script:
        "../scripts/export.py"
