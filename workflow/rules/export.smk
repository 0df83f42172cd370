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


rule crate:
    """Describe a finished run, where it lies, as a Workflow Run RO-Crate."""
    input:
        # a function: of a million slides only who asks for a crate lists the manifests here
        artefacts=lambda wildcards: [*demo_manifest(), *all_manifests()],
        tables=[
            f"{RESULTS}/archive.tsv",
            f"{RESULTS}/failures.tsv",
            f"{RESULTS}/morning.html",
            f"{RESULTS}/evaluation/summary.tsv",
        ],
    output:
        manifest=f"{RESULTS}/crate.json",
    log:
        f"{LOGS}/crate/crate.log",
    benchmark:
        f"{BENCHMARKS}/crate/crate.tsv"
    conda:
        EXPORT_ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        # functions of output: what changes a result makes a new crate all the same
        names=lambda wildcards, output: names_of_inputs(),
        project=lambda wildcards, output: str(SCRIPTS.parents[1]),
        configuration=lambda wildcards, output: config,
        settings=config_of("publication"),
        code=code_of("crate.py"),
    script:
        "../scripts/crate.py"
