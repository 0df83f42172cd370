# What all rules share: the checked configuration, the two tables, the digests of the code.
# Needs: config, the tables (or the folder of slides) that it names, workflow/schemas.
# Makes: nothing. No image is opened here and no numpy or torch imported: this file is read again
# by every job on a cluster.

import hashlib
import os
import sys
from functools import partial
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError


def own_folder(rules):
    """This workflow's folder; of a repository on a code host its files in Snakemake's cache.

    Of those Snakemake fetches what a rule names, which modules that a script imports are not.
    """
    if rules.is_local:
        return Path(str(rules)).parents[1]
    tree = rules.hosted_repo.repo.git.ls_tree("-r", "--name-only", rules.ref).splitlines()
    wanted = [name for name in tree if name.startswith(("workflow/", "envs/"))]
    for name in ["config.yaml", *wanted]:
        file = Path(workflow.sourcecache.get_path(rules.join(f"../../{name}")))
    return file.parents[name.count("/")]


PROJECT = own_folder(workflow.current_basedir)
SCRIPTS = PROJECT / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

from slideunet import code_digest, command_line, configuration, inputs, job_limits, local_gpus
from slideunet import longest_first, parameters, settings, slide_failures, slide_identity, tables
from slideunet.errors import UserError


def schema(name):
    """A schema of workflow/schemas."""
    file = PROJECT / "workflow" / "schemas" / f"{name}.schema.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))


# Where this is a module of another workflow `config` may lack keys: Snakemake leaves config.yaml out.
configuration.fill_in(config, yaml.safe_load((PROJECT / "config.yaml").read_text(encoding="utf-8")))

# What rule demo makes, the only rows of a table that need not exist yet.
DEMO = {
    name: f"{config.get('results', 'results')}/demo/{name}"
    for name in ("img2d.tif", "mask2d.tif", "hela.ome.tif", "hela_label.ome.tif")
}

try:
    if workflow.is_main_process:
        configuration.check_files(workflow.configfiles)
    INPUTS = inputs.settle(
        config,
        schema,
        DEMO.values(),
        look=not workflow.remote_exec,
        overrides=workflow.config_settings.config,
    )
    if workflow.is_main_process:
        inputs.check_targets(sys.argv[1:], config, INPUTS)
except UserError as error:
    raise WorkflowError(str(error))

TRAINING, SLIDES = INPUTS.training, INPUTS.slides
REFUSED, UNLABELLED = INPUTS.refused, INPUTS.unlabelled
RESULTS = config["results"]
MODELS = settings.models_of(config)
# Manifests of the networks that segment: trained here, or one made elsewhere.
SEGMENT_MODELS = (
    [f"{RESULTS}/models/imported/import_model.json"]
    if config["model"]
    else [f"{RESULTS}/models/{model}/train.json" for model in config["segment"]["models"]]
)
ALL_MODELS = [f"{RESULTS}/models/{model}/train.json" for model in MODELS] or SEGMENT_MODELS
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"
ENVIRONMENT = "../../envs/environment.yaml"
# Where there is a GPU here, the jobs that gain by one ask for it; a cluster's profile sets its own.
GPUS = min(1, local_gpus.count_gpus())
if GPUS and workflow.is_main_process and workflow.local_exec:
    if "gpu" not in workflow.global_resources:
        workflow.register_resource("gpu", local_gpus.count_gpus())

# One of the calls of workflow/in_turn.py, which are counted from 0.
STAGE = os.environ.get("UNET_SLIDES_STAGE")

# Slides that failed in an earlier call are tried again in this one (of several stages: once). A call
# that runs no jobs must leave them to the one that perhaps runs right now.
if workflow.is_main_process and STAGE in (None, "0"):
    AGAIN = slide_failures.failed_manifests(RESULTS, SLIDES)
    if AGAIN and (workflow.output_settings.dryrun or command_line.only_looks(sys.argv[1:])):
        slide_failures.announce(AGAIN)
    else:
        slide_failures.set_aside(AGAIN)

# Slides that were touched or moved are told from changed ones here, by their content; where the
# stages run in turn by rule index, whose jobs make the same again.
SAME_SLIDES = set()
if workflow.is_main_process:
    # (workflow.dryrun is not known yet while this file is read)
    dry_run = workflow.output_settings.dryrun
    SAME_SLIDES = slide_identity.find_same(
        RESULTS,
        {name: row["image"] for name, row in SLIDES.items()},
        note=not dry_run,
        read_bytes=slide_identity.bytes_to_read(dry_run=dry_run, in_turn=STAGE is not None),
    )


wildcard_constraints:
    image="[A-Za-z0-9][A-Za-z0-9_-]{0,63}",
    slide="[A-Za-z0-9][A-Za-z0-9_-]{0,63}",
    model="[A-Za-z0-9][A-Za-z0-9_-]{0,63}",


code_of = partial(code_digest.code_of, SCRIPTS)


def page_digests():
    """Digests of the morning report's template, style and script."""
    files = sorted((SCRIPTS / "slideunet" / "page").iterdir())
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:12] for file in files}


def config_of(*sections, **more):
    """The named sections and values of the configuration, keys sorted, as one rule's settings."""
    return settings.in_order({**{name: config[name] for name in sections}, **more})


def demo_settings():
    """The demo's packages and pixel size; where the wheels lie does not change the images."""
    return settings.in_order({k: v for k, v in config["demo"].items() if k != "wheels"})


def training_files(wildcards):
    """The files of one row of the training table, by column."""
    return training_files_of(TRAINING[wildcards.image])


def training_files_of(row):
    """The files of a row of the training table, by column."""
    return {column: row[column] for column in tables.PATHS if column in row}


def training_settings(wildcards):
    """How one row of the training table is to be read."""
    row = TRAINING[wildcards.image]
    row = {key: row[key] for key in row if key not in ("id", "split", "image", "label")}
    return config_of("classes", **row)


def images_of(folder, part, wildcards):
    """Manifests in `folder` of the images that a model trains on (train_on) or tests on (test_on)."""
    wanted = MODELS[wildcards.model][part]
    ids = [name for name, row in TRAINING.items() if row.get("split") in wanted]
    return [f"{RESULTS}/{folder}/{name}.json" for name in sorted(ids)]


def image_to_show(wildcards):
    """The manifest of the first image that a network is tested on, or trained on if there is none."""
    images = [
        *images_of("images", "test_on", wildcards),
        *images_of("images", "train_on", wildcards),
    ]
    return images[0]


def model_settings(wildcards):
    """Everything that shapes one model. The model it starts from is an input, not a setting."""
    sections = settings.model_settings(config, wildcards.model)
    sections = settings.without(sections, "train", ("start_from",))
    return settings.in_order({"classes": config["classes"], **sections})


def start_of(wildcards):
    """The model that a training goes on from, where there is one."""
    return settings.model_settings(config, wildcards.model)["train"]["start_from"] or []


def model_groups():
    """The group of each model: models of one group are repetitions of one thing."""
    return settings.in_order({name: MODELS[name].get("group", name) for name in MODELS})


def train_processes(wildcards):
    """How many processes, each with a GPU where there are any, share one training."""
    return model_settings(wildcards)["train"]["processes"]


def train_threads(wildcards):
    """CPU threads of each."""
    return model_settings(wildcards)["train"]["threads"]


def slide_made_here(wildcards):
    """The demo's slide, since a rule makes it. `identity_of_slide` tells the changes of others."""
    file = SLIDES[wildcards.slide]["image"]
    return file if file in DEMO.values() else []


def identity_of_slide(wildcards):
    """Size in bytes and modification time in ns: a changed slide is indexed again.

    Of a slide that was only touched or moved those that it was indexed with. None for the demo's
    slide, which is compared by content as any file that a rule makes.
    """
    file = SLIDES[wildcards.slide]["image"]
    if file in DEMO.values():
        return None
    return slide_identity.identity_of(RESULTS, wildcards.slide, file, SAME_SLIDES)


def slide_bytes(wildcards):
    """Size of the slide. It is its jobs' priority too: large slides first."""
    return longest_first.bytes_of(SLIDES[wildcards.slide]["image"])


def slide_settings(wildcards):
    """How one slide is to be indexed."""
    row = SLIDES[wildcards.slide]
    return config_of("index", "intensity", mpp_um=row.get("mpp_um"))


def tissue_file(wildcards):
    """The user's own tissue outlines, where the table names some."""
    return SLIDES[wildcards.slide].get("tissue", [])


def slide_manifests(name):
    """The manifest `name` of each slide."""
    return [f"{RESULTS}/slides/{slide}/{name}.json" for slide in sorted(SLIDES)]


def parts_of(wildcards):
    """Manifests of the parts of a slide; none for a slide in one piece."""
    count = int(SLIDES[wildcards.slide].get("parts", config["segment"]["parts"]))
    folder = f"{RESULTS}/slides/{wildcards.slide}/parts"
    return [f"{folder}/{part}-of-{count}.json" for part in range(1, count + 1) if count > 1]


def all_manifests():
    """The manifest of every artefact that the configuration asks for."""
    models = [
        f"{RESULTS}/{manifest}.json"
        for name in MODELS
        for manifest in (f"models/{name}/train", f"evaluation/{name}")
    ]
    wanted = {
        split for model in MODELS.values() for split in (*model["train_on"], *model["test_on"])
    }
    images = [
        f"{RESULTS}/{folder}/{name}.json"
        for name, row in TRAINING.items()
        if row.get("split") in wanted
        for folder in ("images", "weights")
    ]
    stages = ("slide", "segmentation", "objects", "overlay")
    slides = [manifest for stage in stages for manifest in slide_manifests(stage)]
    imported = SEGMENT_MODELS if config["model"] else []
    return [*images, *models, *imported, *slides, *accuracy_manifests()]


def reference_label(wildcards):
    """The reference label image that the slide table names for one slide."""
    return SLIDES[wildcards.slide]["label"]


def accuracy_manifests():
    """The manifests of all comparisons with a reference."""
    measured = sorted(slide for slide, row in SLIDES.items() if "label" in row)
    return [f"{RESULTS}/slides/{slide}/accuracy.json" for slide in measured]


def demo_manifest():
    """The manifest of rule demo, where the tables name images that it makes."""
    named = {
        file for row in (*TRAINING.values(), *SLIDES.values()) for file in map(str, row.values())
    }
    return [f"{RESULTS}/demo/demo.json"] if named & set(DEMO.values()) else []


def names_of_inputs():
    """Path of a manifest below RESULTS -> {input: file name}, of files that the tables name."""
    images = {f"images/{name}.json": training_files_of(row) for name, row in TRAINING.items()}
    slides = {
        f"slides/{name}/{manifest}.json": {column: row[column]}
        for name, row in SLIDES.items()
        for manifest, column in (("slide", "tissue"), ("accuracy", "label"))
        if column in row
    }
    return {
        manifest: {column: Path(file).name for column, file in files.items()}
        for manifest, files in {**images, **slides}.items()
    }
