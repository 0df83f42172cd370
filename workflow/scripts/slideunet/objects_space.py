"""Bytes that a slide's objects will take, from windows around some that go through it all first.

The number of objects and their area are known once they are found, before anything is written.
What is not known is how many bytes each takes, in the label image, in the tables, as outlines: that
is measured on a mosaic of windows, written for real into a folder that is removed again.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from slideunet.geometry import Window
from slideunet.labels import Instances
from slideunet.space import Estimate, spread

WINDOWS, SIDE_PX = 16, 512
# Of estimates on real and made slides (docs/reliability.md): what is promised.
ERROR = 0.15


def sampled_px(shape: tuple[int, int]) -> int:
    """Pixels of the mosaic for a slide of this shape."""
    return WINDOWS * min(SIDE_PX, shape[0]) * min(SIDE_PX, shape[1])


def windows_of(instances: Instances) -> list[Window]:
    """Windows that are evenly spaced among all that hold the beginning of an object.

    Not around evenly spaced objects: fields with many small ones would count for more.
    """
    height, width = (min(SIDE_PX, side) for side in instances.shape)
    y, x = np.divmod(instances.first_px, instances.shape[1])
    found = np.unique(np.stack([y // height, x // width]), axis=1).T
    chosen = [found[number] for number, _ in zip(spread(len(found)), range(WINDOWS), strict=False)]
    return [
        Window(
            min(int(row) * height, instances.shape[0] - height),
            min(int(column) * width, instances.shape[1] - width),
            height,
            width,
        )
        for row, column in chosen
    ]


def mosaic(array, windows: list[Window], parted: bool = False) -> np.ndarray:
    """The windows of an array (.., Y, X) one below the other; `parted`: by a row of zeros."""
    every = (slice(None),) * (len(array.shape) - 2)
    parts = [np.array(array[(*every, *window.slices())]) for window in windows]
    for part in parts if parted else ():
        part[..., -1, :] = 0
    return np.concatenate(parts, axis=-2)


def estimate(
    folder: Path, instances: Instances, write: Callable[[Path, bool], Instances]
) -> Estimate | None:
    """Bytes of all files of the objects; None where the windows hold none of them whole.

    write : (folder, empty) writes all files of the mosaic, or of one without any object, into the
        folder and returns the mosaic's objects
    """
    for left in folder.glob("sample-*"):  # by a job that was killed
        shutil.rmtree(left, ignore_errors=True)
    # Not in a folder made anew: where this job has been taken over its folder is gone.
    sample = Path(tempfile.mkdtemp(prefix="sample-", dir=folder))
    try:
        found = write(sample / "full", False)
        write(sample / "empty", True)
        sizes, least = _sizes(sample / "full"), _sizes(sample / "empty")
    finally:
        shutil.rmtree(sample, ignore_errors=True)
    if not len(found) and len(instances):
        return None
    pixels = np.prod(instances.shape) / np.prod(found.shape)
    area = instances.area_px.sum() / max(1, found.area_px.sum())
    rows = len(instances) / max(1, len(found))
    total = 0.0
    for kind, size in sizes.items():
        grows = area if kind in ("labels", "outlines") else rows
        fixed = least[kind] * (pixels if kind == "labels" else 1)
        total += fixed + max(0, size - least[kind]) * grows
    return Estimate(int(total), ERROR)


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of labels, outlines and tables; metadata of arrays left out."""
    found = {"labels": 0, "outlines": 0, "tables": 0}
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "zarr.json":
            kind = "tables"
            if any(part.endswith(".zarr") for part in path.relative_to(folder).parts):
                kind = "labels"
            elif ".geojson" in path.name:
                kind = "outlines"
            found[kind] += path.stat().st_size
    return found
