"""From a class map to labels, tables, outlines and a pyramid, beside others and the bare disk work.

What is run are the stages of bench_objects.py, on a smaller slide.
"""

import gzip
from pathlib import Path

import bench_objects
import numpy as np
from bench_objects import BLOCK_PX, CORNER_PX
from turns import Prepared, Program, Stage

SIDE_PX = 4096
LEVEL = 1  # of gzip, as the product writes
_HERE = "stages.objects"


def stages() -> list[Stage]:
    def of(name: str, per: str = "Mpx") -> dict:
        return {"function": f"{_HERE}:stage_of", "keywords": {"name": name, "per": per}}

    labelling = [
        Program("ours", "ours, both passes, Zarr to Zarr", **of("labels")),
        Program("peer", "scipy, whole image in memory, Zarr to Zarr", **of("scipy")),
        Program("peer", "dask-image, same chunks, Zarr to Zarr", turns=1, **of("dask_image")),
        Program("limit", "the same chunks read and written", f"{_HERE}:same_bytes"),
    ]
    table = [
        Program("ours", "ours: shapes to Parquet", **of("measure", "object")),
        Program("peer", f"skimage regionprops_table ({CORNER_PX} px)", **of("skimage", "object")),
    ]
    outlines = [
        Program("ours", "ours: exact outlines to .geojson.gz", **of("geojson", "object")),
        Program(
            "peer", f"skimage find_contours, json, gzip ({CORNER_PX // 2} px)", f"{_HERE}:contours"
        ),
        Program("limit", "gzip of the same text", f"{_HERE}:compressed"),
    ]
    pyramid = [
        Program("ours", "ours, levels of a label image", f"{_HERE}:pyramid"),
        Program(
            "peer", "ome-zarr, write_labels (largest level included)", f"{_HERE}:ome_zarr_pyramid"
        ),
        Program("limit", "the largest level read", f"{_HERE}:only_read"),
    ]
    make = f"{_HERE}:make"
    return [
        Stage("labelling", "Mpx/s", labelling, make),
        Stage("measures", "CPU-ms", table, make),
        Stage("outlines", "CPU-ms", outlines, make),
        Stage("label pyramid", "Mpx/s", pyramid, make),
    ]


def make(folder: Path) -> Prepared:
    """A class map of 5,776 objects, and its labels."""

    def work() -> None:
        bench_objects.stage_make(folder, SIDE_PX)()
        bench_objects.stage_labels(folder, SIDE_PX)()

    return work, 1


def stage_of(folder: Path, name: str, per: str) -> Prepared:
    """A stage of bench_objects; per Mpx, or per object of those it sees."""
    work = getattr(bench_objects, f"stage_{name}")(folder, SIDE_PX)
    if per == "Mpx":
        return work, SIDE_PX**2 / 1e6
    corner = CORNER_PX if name in bench_objects.CORNERS else SIDE_PX
    return work, _objects(folder, corner)


def _labels(folder: Path, side: int) -> np.ndarray:
    return bench_objects._open(folder, "labels")[:side, :side]


def _objects(folder: Path, side: int) -> int:
    return len(np.unique(_labels(folder, side))) - 1


def same_bytes(folder: Path) -> Prepared:
    """Class map read twice (two passes), labels that are there already written again."""
    labels = _labels(folder, SIDE_PX)

    def work() -> None:
        classes, target = (
            bench_objects._open(folder, name, mode)
            for name, mode in (("classes", "r"), ("labels", "r+"))
        )
        for y in range(0, SIDE_PX, BLOCK_PX):
            for x in range(0, SIDE_PX, BLOCK_PX):
                block = np.s_[y : y + BLOCK_PX, x : x + BLOCK_PX]
                for _ in range(2):
                    classes[block]
                target[block] = labels[block]

    return work, SIDE_PX**2 / 1e6


def contours(folder: Path) -> Prepared:
    """What scripts do: a mask per object, its contour at the half level, one JSON text."""
    import json

    from skimage.measure import find_contours, regionprops

    side = CORNER_PX // 2

    def work() -> None:
        features = []
        for region in regionprops(_labels(folder, side)):
            mask = np.pad(region.image, 1).astype(np.uint8)
            rings = [
                (ring[:, ::-1] + np.array(region.bbox[1::-1]) - 1).tolist()
                for ring in find_contours(mask, 0.5)
            ]
            features.append(
                {
                    "type": "Feature",
                    "id": region.label,
                    "geometry": {"type": "Polygon", "coordinates": rings},
                    "properties": {"classification": {"name": "nucleus"}},
                }
            )
        text = json.dumps({"type": "FeatureCollection", "features": features})
        (folder / "contours.geojson.gz").write_bytes(gzip.compress(text.encode(), LEVEL))

    return work, _objects(folder, side)


def compressed(folder: Path) -> Prepared:
    """Python's gzip on the text that ours writes."""
    bench_objects.stage_geojson(folder, SIDE_PX)()
    text = gzip.decompress((folder / "objects.geojson.gz").read_bytes())
    return lambda: gzip.compress(text, LEVEL), _objects(folder, SIDE_PX)


def pyramid(folder: Path) -> Prepared:
    """All levels below the largest, from Zarr to Zarr."""
    from slideunet.label_pyramid import create_label_image, write_levels

    path = folder / "ours.ome.zarr"
    levels = create_label_image(path, (SIDE_PX, SIDE_PX), np.dtype(np.uint32), (0.5, 0.5))
    levels[0][:] = _labels(folder, SIDE_PX)
    return lambda: write_levels(levels), SIDE_PX**2 / 1e6


def ome_zarr_pyramid(folder: Path) -> Prepared:
    """The reference implementation's writer; it writes all levels, the largest too."""
    import shutil

    import zarr
    from ome_zarr.writer import write_labels

    labels = _labels(folder, SIDE_PX)

    def work() -> None:
        path = folder / "peer.ome.zarr"
        shutil.rmtree(path, ignore_errors=True)
        group = zarr.open_group(str(path), mode="w")
        write_labels(labels, group, "objects", axes="yx")

    return work, SIDE_PX**2 / 1e6


def only_read(folder: Path) -> Prepared:
    """Chunk by chunk, as the pyramid's writer must."""
    labels = bench_objects._open(folder, "labels")

    def work() -> None:
        for y in range(0, SIDE_PX, BLOCK_PX):
            labels[y : y + BLOCK_PX]

    return work, SIDE_PX**2 / 1e6
