"""Whole slides through Snakemake to a validated OME-Zarr: what anyone can run.

    make bench-slides                             # 6 minutes of one core
    make bench-slides BENCH="--side 8192"         # a small one: 1 minute
    make bench-slides BENCH="--everything"        # objects, pictures and tables too

A made-up Aperio slide (tiled JPEG, 32768 x 32768 px at 0.5 um, tissue on a third of it), and
CMU-1-Small-Region.svs where UNET_SLIDES_DATA names the folder with it. A network is trained on a
crop of the made-up tissue, then `snakemake` makes each slide's segmentation. The stores are
validated by ome-zarr-models, opened by ome-zarr, and held against their checksums; the made-up
slide's classes are compared with the nuclei that were drawn.
"""

import argparse
import csv
import os
import sys
import tempfile
import warnings
from pathlib import Path

import made_slide
import numpy as np
import tifffile

SOURCE = Path(__file__).parents[2]
sys.path[:0] = [str(SOURCE / "tests"), str(SOURCE / "workflow" / "scripts")]

from small_project import Project, copy_workflow  # noqa: E402

CONFIG = {
    "training": "tables/training.tsv",
    "slides": "tables/slides.tsv",
    "intensity": {"scope": "training"},
    "train": {"steps": 300, "validate_every_steps": 150, "threads": 1},
}
REAL = "slides/CMU-1-Small-Region.svs"


def prepare(folder: Path, side: int) -> tuple[Project, list[str]]:
    """A project with two training images and the slides; their ids."""
    import yaml

    project = copy_workflow(SOURCE, folder)
    (folder / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    rgb, label = made_slide.pattern(seed=1)
    raw = folder / "raw"
    raw.mkdir()
    for name, start in (("a", 0), ("b", 1024)):
        crop = np.s_[start : start + 512, start : start + 512]
        tifffile.imwrite(raw / f"{name}.tif", rgb[crop], photometric="rgb", metadata=None)
        tifffile.imwrite(raw / f"{name}_label.tif", label[crop], metadata=None)
    project.write_table(
        "training", "id image label split mpp_um",
        "a raw/a.tif raw/a_label.tif train 0.5", "b raw/b.tif raw/b_label.tif test 0.5",
    )  # fmt: skip
    share = made_slide.write_slide(raw / "made.svs", side)
    megabytes = (raw / "made.svs").stat().st_size / 1e6
    print(f"made: {side} x {side} px, {100 * share:.0f} % tissue, {megabytes:.0f} MB of JPEG")
    rows = ["made raw/made.svs"]
    real = Path(os.environ.get("UNET_SLIDES_DATA", ""), REAL)
    if real.is_file():
        rows.append(f"cmu-1 {real}")
    else:
        print(f"cmu-1: left out, UNET_SLIDES_DATA does not name a folder with {REAL}")
    project.write_table("slides", "id image", *rows)
    return project, [row.split(" ")[0] for row in rows]


def validate(folder: Path) -> None:
    """Raise unless others take the store for what it says, and all bytes are those written."""
    import ome_zarr_models
    import zarr
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader
    from slideunet.store import find_damage

    path = folder / "segmentation.ome.zarr"
    kinds = [
        type(ome_zarr_models.open_ome_zarr(zarr.open_group(str(path / name), mode="r"))).__name__
        for name in ("", "labels/classes")
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nodes = list(Reader(parse_url(str(path)))())
    shapes = [node.data[0].shape for node in nodes if node.data]  # image, label image
    damage = find_damage(folder / "segmentation.json")
    if kinds != ["Image", "ImageLabel"] or len(shapes) != 2 or damage:
        raise SystemExit(f"{path}: not valid: {kinds}, {shapes}, {damage[:1]}")
    files = sum(1 for p in path.rglob("*") if p.is_file())
    print(f"  valid ({', '.join(kinds)}), opened as {shapes[0]}, {files} files, no byte damaged")


def compare(folder: Path, side: int) -> None:
    """Share of the pixels of one repeat of the pattern in which class and drawing agree."""
    import zarr

    label = made_slide.pattern()[1] > 0
    cells = made_slide.tissue_cells(side)
    row, column = np.argwhere(cells)[len(cells) // 2]
    start = np.array([row, column]) * made_slide.PATTERN_PX
    window = tuple(slice(n, n + made_slide.PATTERN_PX) for n in start)
    found = zarr.open_group(str(folder / "segmentation.ome.zarr"), mode="r")["labels/classes/0"]
    agree = (found[window] > 0) == label
    intersection = ((found[window] > 0) & label).sum() / ((found[window] > 0) | label).sum()
    print(f"  of {label.size / 1e6:.1f} Mpx of tissue {100 * agree.mean():.1f} % agree with the "
          f"nuclei drawn (IoU {intersection:.3f})")  # fmt: skip


def report(project: Project, slides: list[str], side: int) -> None:
    """Where the time went, and what came out."""
    for slide in slides:
        folder = project.folder / "results" / "slides" / slide
        facts = project.read(f"results/slides/{slide}/segmentation.json")["facts"]
        timing = project.read(f"results/slides/{slide}/segmentation.timing.json")
        pixels = facts["computed_px"] + facts["skipped_px"]
        print(f"{slide}: {facts['shape']}, computed {100 * facts['computed_px'] / pixels:.1f} %, "
              f"{facts['precision']}, tiles of {facts['tile_px']} px")  # fmt: skip
        for rule in ("index", "segment"):
            with open(project.folder / f"results/benchmarks/{rule}/{slide}.tsv") as file:
                used = next(csv.DictReader(file, delimiter="\t"))
            print(
                f"  {rule}: {used['s']} s, {used['cpu_time']} s of CPU, peak {used['max_rss']} MB"
            )
        print("  " + ", ".join(f"{key} {value}" for key, value in timing.items()))
        validate(folder)
        if slide == "made":
            compare(folder, side)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=32768, help="px, a multiple of 4096")
    parser.add_argument("--everything", action="store_true", help="the default targets")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as folder:
        project, slides = prepare(Path(folder) / "project", options.side)
        targets = [f"results/slides/{slide}/segmentation.json" for slide in slides]
        project.snakemake(*([] if options.everything else targets))
        report(project, slides, options.side)


if __name__ == "__main__":
    main()
