"""Nothing quadratic: how CPU time grows as pixels, cells, objects, slides and images double.

    make bench-scaling                            # all
    make bench-scaling BENCH="--only weights"     # those whose name has one of these words

Each size is measured in a process of its own (turns.py), the sizes of one stage in turns. The
exponent is the slope of the line through log(time) over log(size), fitted by least squares: 1 is
proportional, 2 quadratic. What is constant (opening files, planning's start) pulls it below 1.
Where the spacing of cells falls the pixels stay and the cells double: there 0 is ideal. Slides of
`archive` and `report` are made-up results folders; the report's pictures are small, so that what
is left counts.
"""

import argparse
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import bench_dag
import bench_objects
import bench_report
import numpy as np
import turns
from turns import Prepared, Program, Stage

_HERE = "bench_scaling"
SLIDES = (250, 500, 1000, 2000)
FOLDERS = (500, 1000, 2000, 4000)  # slides of which only tables or a page are made
SIDES_PX = (2048, 2896, 4096, 5792)  # pixels double
SPACINGS_PX = (128, 90, 64, 45)  # cells double
IMAGES = (32, 64, 128, 256)
IMAGE_PX = 256


def stages() -> list[Stage]:
    """The name of a program is its size."""

    def of(function: str, sizes, turns: int = 0, **keywords) -> list[Program]:
        where = f"{_HERE}:{function}"
        return [
            Program("ours", f"{size}", where, {"size": size, **keywords}, turns) for size in sizes
        ]

    def objects(name: str) -> list[Program]:
        return of("objects", SIDES_PX, name=name)

    return [
        Stage("weights, px a side", "", of("weights", SIDES_PX)),
        Stage("weights, 2048 px, spacing of cells in px", "", of("weights_of_cells", SPACINGS_PX)),
        Stage("segment, px a side", "", of("segment", (1024, 1448, 2048))),
        Stage("labelling, px a side", "", objects("labels")),
        Stage("measures, px a side", "", objects("measure")),
        Stage("geojson, px a side", "", objects("geojson")),
        Stage("indexing, px a side", "", of("indexing", SIDES_PX)),
        Stage("training images, their number", "", of("sampling", IMAGES)),
        Stage("planning, slides", "", of("planning", SLIDES, turns=2)),
        Stage("archive's tables, slides", "", of("archive", FOLDERS)),
        Stage("morning report, slides", "", of("report", SLIDES)),
    ]


def weights(folder: Path, size: int) -> Prepared:
    from stages.weight_map import ours

    return ours(folder, size, 43)[0], 1


def weights_of_cells(folder: Path, size: int) -> Prepared:
    from stages.weight_map import ours

    return ours(folder, 2048, size)[0], 1


def segment(folder: Path, size: int) -> Prepared:
    """A procedural slide with a narrow network, tiles of 512 px, shards of 1024 px."""
    from procedural_slide import request
    from slideunet.segmentation import segment_slide

    asked = request(size, size, "bfloat16", 512, base=4, shard_px=1024)

    def work() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            segment_slide(asked, Path(name))

    return work, 1


def objects(folder: Path, size: int, name: str) -> Prepared:
    """A stage of bench_objects on a slide of its own."""
    own = folder / f"{name}-{size}"
    own.mkdir()
    bench_objects.stage_make(own, size)()
    labelling = bench_objects.stage_labels(own, size)
    if name == "labels":
        return labelling, 1
    labelling()
    return getattr(bench_objects, f"stage_{name}")(own, size), 1


def sampling(folder: Path, size: int) -> Prepared:
    """All a training does before its first step, and the tiles of 16 steps."""
    import torch
    import yaml
    from slideunet.training import Training
    from slideunet.training_data import AnnotatedImage

    torch.set_num_threads(1)
    config = yaml.safe_load((Path(__file__).parents[2] / "config.yaml").read_text())
    settings = {section: config[section] for section in ("network", "augment", "train")}
    image = np.random.default_rng(0).random((1, IMAGE_PX, IMAGE_PX), dtype=np.float32)
    target = (image[0] > 0.7).astype(np.uint8)
    images = [AnnotatedImage(f"{n}", image, target, image[0]) for n in range(size)]

    def work() -> None:
        training = Training(images, [], settings, [0.4, 1.0], folder)
        for step in range(16):
            training.tiles(step)

    return work, 1


def indexing(folder: Path, size: int) -> Prepared:
    """A tiled JPEG slide of one level, so that the overview is made of all of its pixels."""
    import yaml
    from procedural_slide import ProceduralSlide, write_jpeg
    from slideunet.slides import index_slide

    path = folder / f"{size}.tif"
    write_jpeg(path, ProceduralSlide(size, size))
    config = yaml.safe_load((Path(__file__).parents[2] / "config.yaml").read_text())
    settings = {"index": config["index"], "intensity": config["intensity"], "mpp_um": 0.5}

    def work() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            index_slide(path, settings, name)

    return work, 1


def planning(folder: Path, size: int) -> Prepared:
    """`snakemake -n`."""
    return partial(bench_dag.measure, size), 1


def archive(folder: Path, size: int) -> Prepared:
    """A row for each slide out of its manifests, in three tables."""
    import json

    from slideunet import timing
    from slideunet.slide_failures import STAGES, write_tables

    results, slides = folder / f"archive-{size}", [f"slide{number}" for number in range(size)]
    facts = {
        "slide": {"height": 9000, "width": 9000, "mpp_um": [0.5, 0.5], "quality": {"focus": 3.0}},
        "segmentation": {"tile_px": 1024, "computed_px": 10**7, "masked_px": 0},
        "objects": {"summary": {"objects": 9000, "fraction_nucleus": 0.25}},
    }
    for slide in slides:
        own = results / "slides" / slide
        own.mkdir(parents=True)
        for stage in STAGES:
            manifest = {"status": "done", "files": [], "facts": facts.get(stage, {})}
            (own / f"{stage}.json").write_text(json.dumps(manifest))
        (own / timing.NAME).write_text(json.dumps(dict.fromkeys(timing.COLUMNS, 1.0)))
    return partial(write_tables, str(results), slides, []), 1


def report(folder: Path, size: int) -> Prepared:
    """The morning report, made-up pictures of 64 px."""
    from slideunet.stages.morning import morning

    results = folder / f"report-{size}"
    models = bench_report.make(results, size, picture_px=64)
    given = {"models": models, "page": str(results / "morning.html"), "config": {}}
    return partial(morning, results=str(results), **given), 1


def exponent(sizes: list[float], seconds: list[float]) -> float:
    """Slope of log(seconds) over log(sizes)."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--budget-s", type=float, default=30, help="wall time for a stage's turns")
    options = parser.parse_args()
    print("| stage, size | sizes | CPU-s | exponent |\n|---|---|---|---|", flush=True)
    for stage in stages():
        if not any(word in stage.name for word in options.only):
            continue
        with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as folder:
            found = turns.measure(
                stage, sys.executable, Path(folder), options.turns, options.budget_s
            )
        problems = [f"{m.program.name}: {m.problem}" for m in found if m.problem]
        if problems:
            print(f"| {stage.name} | {'; '.join(problems)} | | |", flush=True)
            continue
        sizes = [float(m.program.name) for m in found]
        if "px" in stage.name:  # pixels, or cells: squares of what is named
            sizes = [size**-2 if "spacing" in stage.name else size**2 for size in sizes]
        seconds = [m.cost_s for m in found]
        shown = [", ".join(m.program.name for m in found), ", ".join(f"{s:.2f}" for s in seconds)]
        print(
            f"| {stage.name} | {' | '.join(shown)} | {exponent(sizes, seconds):.2f} |", flush=True
        )


if __name__ == "__main__":
    main()
