"""A first configuration and tables for a folder of slides: what lies there, written down."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from slideunet import slide_folder
from slideunet.annotations import IGNORE_NAME, NEXT_NAME, REGION_NAME, read_outlines
from slideunet.errors import UserError

# Beside NAME.svs, what is taken for its annotation, in this order.
OUTLINES = (".geojson", ".geojson.gz", ".xml")
LABELS = ("_label", "_labels", "_mask", "-label", "-labels", "-mask")
LABEL_ENDINGS = (".tif", ".tiff", ".png", ".ome.tif", ".ome.tiff")
PICTURES = (".png", ".jpg", ".jpeg")
NO_CLASSES = {IGNORE_NAME, REGION_NAME, NEXT_NAME, ""}
BACKGROUNDS = ("background", "Background")


@dataclass(frozen=True)
class Start:
    """What was found: id -> path of each slide, id -> path of its annotation, names of classes, and
    what could not be used.
    """

    slides: dict[str, str]
    labels: dict[str, str]
    classes: list[str]
    refused: list[str]


def look(folder: str, schema: dict) -> Start:
    """Slides in a folder, and the annotations beside them. Of a folder without slides its pictures.

    schema : of the slide table. Raises UserError where there is no slide.
    """
    if not folder:
        raise UserError("no folder given: make init FOLDER=/data/slides")
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder: give the folder that your slides lie in")
    rows, refused = _rows(folder, schema)
    paths = {name: row["image"] for name, row in rows.items()}
    names = {folder: names_in(folder) for folder in {os.path.dirname(p) for p in paths.values()}}
    labels = {
        name: label
        for name, path in paths.items()
        if (label := label_of(path, names[os.path.dirname(path)]))
    }
    drawn = {os.path.realpath(label) for label in labels.values()}
    slides = {n: path for n, path in paths.items() if os.path.realpath(path) not in drawn}
    labels = {name: label for name, label in labels.items() if name in slides}
    classes: dict[str, None] = {}
    for label in labels.values():
        if label.lower().endswith(OUTLINES):
            names = (outline.name for outline in read_outlines(label))
            classes |= dict.fromkeys(n for n in names if n not in {*NO_CLASSES, *BACKGROUNDS})
    return Start(slides, labels, list(classes), [row["reason"] for row in refused])


def _rows(folder: str, schema: dict) -> tuple[dict[str, dict], list[dict]]:
    """As slide_folder.read_slides. Beside slides a PNG or JPEG is a thumbnail, not a slide."""
    slides, none = ({}, []), ""
    try:
        slides = slide_folder.read_slides(folder, schema)
    except UserError as error:
        none = str(error).removeprefix("config: slides: ")
    if not all(is_label(row["image"]) for row in slides[0].values()):
        return slides
    try:
        return slide_folder.read_slides(folder, schema, endings=PICTURES)
    except UserError:
        if slides[0]:
            return slides
        raise UserError(f"{none}, or of pictures ({', '.join(PICTURES)})") from None


def names_in(folder: str) -> dict[str, str]:
    """The names in a folder by their lower case: annotations are found whatever theirs is."""
    return {name.lower(): name for name in sorted(os.listdir(folder or "."))}


def is_label(path: str) -> bool:
    """Whether the name is that of a label image."""
    ending = next((e for e in LABEL_ENDINGS[::-1] if path.lower().endswith(e)), "")
    return bool(ending) and path.lower().removesuffix(ending).endswith(LABELS)


def label_of(path: str, names: dict[str, str]) -> str | None:
    """The annotation beside an image: NAME.geojson, NAME.xml or NAME_label.tif and the like.

    names : of the image's folder (`names_in`)
    """
    ending = next((e for e in slide_folder.ENDINGS if path.lower().endswith(e)), "")
    stem = path[: len(path) - len(ending)] if ending else os.path.splitext(path)[0]
    tried = [f"{stem}{end}" for end in OUTLINES]
    tried += [f"{path}{end}" for end in OUTLINES]
    tried += [f"{stem}{mark}{end}" for mark in LABELS for end in LABEL_ENDINGS]
    folder = os.path.dirname(path)
    found = (names.get(os.path.basename(name).lower()) for name in tried)
    beside = (os.path.join(folder, name) for name in found if name)
    return next((name for name in beside if os.path.isfile(name)), None)


def write(found: Start, name: str, into: Path, project: Path) -> list[Path]:
    """Write NAME.yaml, NAME-slides.tsv and NAME-training.tsv; raises UserError rather than
    overwrite one.
    """
    files = {
        into / f"{name}-slides.tsv": _slides(found),
        into / f"{name}-training.tsv": _training(found),
        into / f"{name}.yaml": _configuration(found, name, into, project),
    }
    for path in files:
        if path.exists():
            raise UserError(f"{path}: is there already: move it away, or give another NAME")
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    return list(files)


def name_of(folder: str) -> str:
    """A folder's name as part of file names."""
    clean = re.sub(r"[^A-Za-z0-9_-]+", "-", os.path.basename(os.path.abspath(folder)))
    return clean.strip("-_")[:64] or "slides"


def _slides(found: Start) -> str:
    lines = ["id\timage"]
    lines += [f"{name}\t{path}" for name, path in found.slides.items()]
    lines += [f"# not usable: {reason}" for reason in found.refused]
    return "".join(f"{line}\n" for line in lines)


def _training(found: Start) -> str:
    lines = ["id\timage\tlabel\tsplit"]
    last = list(found.labels)[-1:] if len(found.labels) > 1 else []
    lines += [
        f"{name}\t{found.slides[name]}\t{label}\t{'test' if name in last else 'train'}"
        for name, label in found.labels.items()
    ]
    if not found.labels:
        lines.append("# no annotation was found beside a slide: a line for each annotated image,")
        lines.append("# nuclei-1\timages/1.tif\timages/1.geojson\ttrain")
    return "".join(f"{line}\n" for line in lines)


def _configuration(found: Start, name: str, into: Path, project: Path) -> str:
    schema = (project / "workflow/schemas/config.schema.yaml").resolve()
    classes = ", ".join(_quoted(one) for one in ["background", *(found.classes or ["nucleus"])])
    tested = "[test]" if len(found.labels) > 1 else "[train]"
    prefix = "" if into.resolve() == Path.cwd().resolve() else f"{into}/"
    many = ["" if len(each) == 1 else "s" for each in (found.slides, found.labels)]
    warning = {
        0: "# No annotation was found beside a slide: fill in the table, or set `model` below.\n",
        1: "# One annotated image only: the accuracy measured is that on the image trained on.\n",
    }.get(len(found.labels), "")
    return f"""# yaml-language-server: $schema={schema}
# Only what differs from config.yaml, which names all keys; docs/config.md says what each one does.
# Run it:  .venv/bin/snakemake --profile profiles/local --configfile {prefix}{name}.yaml

results: {_quoted(name + "-results")}   # everything is written there
slides: {_quoted(f"{prefix}{name}-slides.tsv")}   # {len(found.slides)} slide{many[0]}
training: {_quoted(f"{prefix}{name}-training.tsv")}   # {len(found.labels)} annotated image{many[1]}
{warning}# model: ""   # model.json of a model made elsewhere: it segments, nothing is trained

# Names as in the annotations, the background first.
classes: [{classes}]

models:
  main:
    train_on: [train]   # splits of the training table
    test_on: {tested}

network:                # the paper's has depth 4 and base_channels 64: slower, for hard images
  depth: 3
  base_channels: 16

train:
  steps: 1500           # more for more images; curves.png shows whether it still gets better
  input_px: 236         # side of the tiles, px: large enough to hold a few objects

objects:
  min_area_px: 30       # smaller objects are dropped, px
  split: none           # distance or probability parts touching objects

segment:
  mem_mb: 4000          # memory of a job, MB: larger tiles fit in more
"""


def _quoted(text: str) -> str:
    """A YAML string, whatever is in it."""
    return text if re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]*", text) else json.dumps(text)
