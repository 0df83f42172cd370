"""Objects of a made-up slide: labelling, measuring, outlines, beside whole-image tools.

    make bench-objects                                  # 16384 x 16384, 92,000 objects, all peers
    make bench-objects BENCH="--size 4096"              # a quick look
    make bench-objects BENCH="--size 54000 --only labels geojson"   # 1,000,000 objects

Each stage runs in a process of its own with one thread; CPU-seconds (user and system) are those of
the work, reading from disk included and imports left out; peak memory is that of the process.
Memory at half the size stands beside it: what is constant doesn't grow. Peers that aren't
installed are named as such; what would take too long sees a corner of the slide only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "workflow" / "scripts"))
CELL_PX = 54  # 16384 / 54 = 303.4 cells a side: 92,000 objects
BLOCK_PX = 2048
CORNER_PX = 2048  # what the slowest see
CORNERS = ("skimage", "split")
Work = Callable[[], int]  # returns the number of objects


def made_up(size: int, y0: int, y1: int) -> np.ndarray:
    """Rows y0..y1 of a class map (size, size) uint8: an ellipse of hashed shape in each cell."""
    cells = round(size / CELL_PX)
    random = np.random.default_rng(0)
    shape = (cells, cells)
    centre_y, centre_x = (random.uniform(20, 34, shape) for _ in range(2))
    half_long, half_short = random.uniform(10, 18, shape), random.uniform(8, 12, shape)
    angle = random.uniform(0, np.pi, shape)
    classes = np.zeros((y1 - y0, size), np.uint8)
    y, x = np.arange(CELL_PX)[None, :, None], np.arange(CELL_PX)[None, None, :]
    for row in range(y0 // CELL_PX, min(-(-y1 // CELL_PX), cells)):
        dy = y - centre_y[row][:, None, None]
        dx = x - centre_x[row][:, None, None]
        cos, sin = (f(angle[row])[:, None, None] for f in (np.cos, np.sin))
        along, across = dx * cos + dy * sin, dy * cos - dx * sin
        inside = (along / half_long[row][:, None, None]) ** 2
        inside += (across / half_short[row][:, None, None]) ** 2
        band = (inside < 1).transpose(1, 0, 2).reshape(CELL_PX, -1)[:, :size]
        top = row * CELL_PX
        rows = slice(max(top, y0), min(top + CELL_PX, y1))
        classes[rows.start - y0 : rows.stop - y0, : band.shape[1]] = band[
            rows.start - top : rows.stop - top
        ]
    return classes


def stage_make(folder: Path, size: int) -> Work:
    """Not timed: the slide's class map, an image and two probabilities, as Zarr."""
    from slideunet.arrays import create_array, create_group

    group = create_group(folder / "slide.zarr")

    def array(name: str, channels: int | None, dtype=np.uint8):
        shape = (size, size) if channels is None else (channels, size, size)
        return create_array(group, name, shape, dtype, "CYX"[-len(shape) :], 512, BLOCK_PX)

    def work() -> int:
        array("labels", None, np.uint32)
        targets = array("classes", None), array("image", 1), array("probabilities", 2)
        ramp = (np.arange(size) // 64 % 97).astype(np.uint8)
        for y in range(0, size, BLOCK_PX):
            rows = slice(y, min(y + BLOCK_PX, size))
            inside = made_up(size, y, min(y + BLOCK_PX, size))
            image = inside * np.uint8(100) + ramp[None, :] + ramp[rows, None] // 2
            probabilities = np.stack([230 - 200 * inside, 25 + 200 * inside])
            for target, values in zip(targets, (inside, image[None], probabilities), strict=True):
                target[..., rows, :] = values
        return 0

    return work


def _open(folder: Path, name: str, mode: str = "r"):
    import zarr

    return zarr.open_group(str(folder / "slide.zarr"), mode=mode)[name]


def stage_labels(folder: Path, size: int, store: bool = True, workers: int = 1) -> Work:
    """Ours: both passes, from Zarr to Zarr (or to nowhere)."""
    from slideunet.labels import Rules, find_instances, label_block, write_instances

    label_block(np.ones((1, 1), np.uint8), 8)  # imports cc3d
    classes = _open(folder, "classes")

    class Nowhere:
        shape, dtype = classes.shape, np.dtype(np.uint32)

        def __setitem__(self, where, values):
            pass

    def work() -> int:
        instances = find_instances(classes, Rules(), block_px=BLOCK_PX, workers=workers)
        target = _open(folder, "labels", "r+") if store else Nowhere()
        write_instances(instances, classes, target, workers=workers)
        np.savez(folder / "instances.npz", last_row=instances.last_row, class_of=instances.class_of)
        return len(instances)

    return work


def stage_find(folder: Path, size: int) -> Work:
    return stage_labels(folder, size, store=False)


def stage_measure(folder: Path, size: int, everything: bool = False) -> Work:
    """Ours: shapes (with `everything` also a channel and the probabilities) to Parquet."""
    import pyarrow.csv
    import pyarrow.parquet  # noqa: F401 (imported here: its second isn't the work's)
    from slideunet.columns import object_columns
    from slideunet.measure import measure_objects
    from slideunet.object_table import write_table
    from slideunet.signals import Sources

    def work() -> int:
        objects = np.load(folder / "instances.npz")
        sources, columns = Sources(), object_columns()
        if everything:
            image, probabilities = _open(folder, "image"), _open(folder, "probabilities")
            sources = Sources(image, ("grey",), probabilities=probabilities)
            columns = object_columns(["grey"], probabilities=True)
        batches = measure_objects(
            _open(folder, "labels"), objects["last_row"], objects["class_of"], sources=sources,
            block_px=BLOCK_PX,
        )  # fmt: skip
        return write_table(batches, columns, folder / "objects.parquet")

    return work


def stage_measure_all(folder: Path, size: int) -> Work:
    return stage_measure(folder, size, everything=True)


def stage_geojson(folder: Path, size: int) -> Work:
    """Ours: exact outlines to .geojson.gz."""
    from slideunet.geojson import Style, write_geojson

    def work() -> int:
        objects = np.load(folder / "instances.npz")
        facts = write_geojson(
            folder / "objects.geojson.gz", _open(folder, "labels"), objects["last_row"],
            objects["class_of"], {1: Style("nucleus", (200, 0, 0))}, block_px=BLOCK_PX,
        )  # fmt: skip
        return facts["objects"]

    return work


def stage_threads(folder: Path, size: int) -> Work:
    """Ours: labelling as `labels`, by two threads."""
    return stage_labels(folder, size, workers=2)


def stage_split(folder: Path, size: int) -> Work:
    """Ours: labelling with touching objects parted, both passes, a corner of the class map."""
    from slideunet.labels import Rules, find_instances, write_instances
    from slideunet.seeds import Split

    def work() -> int:
        classes = _open(folder, "classes")[:CORNER_PX, :CORNER_PX]
        instances = find_instances(classes, Rules(split=Split()), block_px=BLOCK_PX)
        write_instances(instances, classes, np.zeros(classes.shape, np.uint32))
        return len(instances)

    return work


def stage_next(folder: Path, size: int) -> Work:
    """Ours: fields ranked by entropy."""
    from slideunet.entropy import rank_fields
    from slideunet.stages.objects import NEXT_EVERY_PX

    def work() -> int:
        fields = rank_fields(_open(folder, "probabilities"), 512, 10, every_px=NEXT_EVERY_PX)
        return len(fields)

    return work


def stage_scipy(folder: Path, size: int) -> Work:
    """Peer: scipy.ndimage.label on the whole image in memory, stored as ours."""
    from scipy import ndimage

    def work() -> int:
        labels, count = ndimage.label(_open(folder, "classes")[:], np.ones((3, 3)))
        _open(folder, "labels", "r+")[:] = labels
        return count

    return work


def stage_dask_image(folder: Path, size: int) -> Work:
    """Peer: dask_image.ndmeasure.label, one thread, chunks of our blocks, stored as ours."""
    import dask
    import dask.array
    from dask_image.ndmeasure import label

    def work() -> int:
        classes = dask.array.from_array(_open(folder, "classes"), (BLOCK_PX, BLOCK_PX))
        with dask.config.set(scheduler="synchronous"):
            labels, count = label(classes, np.ones((3, 3)))
            stored = dask.array.store(labels, _open(folder, "labels", "r+"), compute=False)
            return int(dask.compute(stored, count)[1])

    return work


def stage_skimage(folder: Path, size: int) -> Work:
    """Peer: regionprops_table of the same shape measures on a corner of the label image."""
    from skimage.measure import regionprops_table

    names = ("label", "bbox", "area", "centroid", "perimeter", "eccentricity", "solidity",
             "orientation")  # fmt: skip

    def work() -> int:
        corner = _open(folder, "labels")[:CORNER_PX, :CORNER_PX]
        return len(regionprops_table(corner, properties=names)["label"])

    return work


STAGES = {
    "find": "ours: labelling, both passes, not stored",
    "threads": "ours: labelling, stored, two threads",
    "split": "ours: labelling, watershed (a corner)",
    "labels": "ours: labelling, stored",
    "measure": "ours: shapes to Parquet",
    "measure_all": "ours: shapes, channel, probabilities",
    "geojson": "ours: outlines to .geojson.gz",
    "next": "ours: fields to annotate next",
    "skimage": "skimage regionprops_table (a corner)",
    "scipy": "scipy label, whole image, stored",
    "dask_image": "dask-image label, stored",
}


def run(python: str, folder: Path, size: int, stage: str) -> dict | None:
    """Run one stage in a process of its own; None if what it needs isn't installed."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "BLOSC")}
    command = [python, __file__, "--stage", stage, "--folder", str(folder), "--size", str(size)]
    process = subprocess.Popen(
        command, env={**os.environ, **threads}, stdout=subprocess.PIPE, text=True
    )
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode == 3 and stage == "dask_image":
        return None
    if process.returncode:
        sys.exit(f"stage {stage} failed with exit status {process.returncode}")
    return {**json.loads(output), "peak_mb": used.ru_maxrss / 1024}


def print_table(full: dict, half: dict, size: int) -> None:
    print(f"\nmade-up slide of {size} x {size} px, CPU-seconds of one thread")
    head = ("stage", "objects", "CPU-s", "wall s", "Mpx/s/core", "us/object", "peak MB", "at half")
    print(("{:40s}" + "{:>11s}" * 7).format(*head))
    for stage in (stage for stage in STAGES if stage in full):
        name, found = STAGES[stage], full[stage]
        if found is None:
            print(f"{name:40s}{'not installed':>22s}")
            continue
        pixels = min(size, CORNER_PX) ** 2 if stage in CORNERS else size**2
        memory = half[stage]["peak_mb"]
        print(
            f"{name:40s}{found['objects']:11d}{found['cpu_s']:11.1f}{found['wall_s']:11.1f}"
            f"{pixels / 1e6 / found['cpu_s']:11.1f}{1e6 * found['cpu_s'] / found['objects']:11.1f}"
            f"{found['peak_mb']:11.0f}{memory:11.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=16384, help="px a side")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE")
    parser.add_argument("--peer-python", default=sys.executable, help="where dask-image is")
    parser.add_argument("--folder", type=Path, help="where the slide lies (default: temporary)")
    parser.add_argument("--stage", choices=("make", *STAGES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        try:
            work = globals()[f"stage_{options.stage}"](options.folder, options.size)
            cpu, wall = time.process_time(), time.perf_counter()
            found = {"objects": work()}
            found["cpu_s"], found["wall_s"] = time.process_time() - cpu, time.perf_counter() - wall
            print(json.dumps(found))
        except ModuleNotFoundError as error:
            print(error, file=sys.stderr)
            sys.exit(3)
        return
    # What is measured and drawn are the stored labels.
    stages = [stage for stage in STAGES if stage in {*options.only, "labels"}]
    found: dict[int, dict] = {}
    for size in (options.size // 2, options.size):
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder, found[size] = Path(name), {}
            for stage in ("make", *stages):
                python = options.peer_python if stage == "dask_image" else sys.executable
                found[size][stage] = run(python, folder, size, stage)
                print(size, stage, found[size][stage], file=sys.stderr, flush=True)
    print_table(found[options.size], found[options.size // 2], options.size)


if __name__ == "__main__":
    main()
