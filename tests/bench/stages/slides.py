"""Reading all of a tiled JPEG slide in windows of an inference tile."""

from collections.abc import Callable
from pathlib import Path

from turns import Prepared, Program, Stage

SIDE_PX, WINDOW_PX = 4096, 1024
_HERE = "stages.slides"


def stages() -> list[Stage]:
    return [
        Stage(
            f"reading a tiled JPEG slide, windows of {WINDOW_PX} px",
            "Mpx/s",
            [
                Program("ours", "ours, in the job's process", f"{_HERE}:ours"),
                Program("ours", "ours, in a child process, as jobs do", f"{_HERE}:ours_remote"),
                Program("peer", "OpenSlide", f"{_HERE}:openslide_windows"),
                Program("peer", "tifffile as Zarr", f"{_HERE}:tifffile_zarr"),
                Program("peer", "tifffile, segments in order", f"{_HERE}:tifffile_segments"),
                Program("limit", "libjpeg-turbo on the tiles in memory", f"{_HERE}:decoded"),
            ],
            f"{_HERE}:make",
        )
    ]


def make(folder: Path) -> Prepared:
    """Tissue-like pixels in every tile."""
    from procedural_slide import ProceduralSlide, write_jpeg

    return lambda: write_jpeg(folder / "slide.svs", ProceduralSlide(SIDE_PX, SIDE_PX)), 1


def _windows(read: Callable[[int, int], object]) -> Prepared:
    def work() -> None:
        for y in range(0, SIDE_PX, WINDOW_PX):
            for x in range(0, SIDE_PX, WINDOW_PX):
                read(y, x)

    return work, SIDE_PX**2 / 1e6


def ours(folder: Path) -> Prepared:
    """A reader for each turn: nothing is left in its cache."""
    from slideunet.readers.open import open_slide

    def work() -> None:
        with open_slide(str(folder / "slide.svs")) as slide:
            _windows(lambda y, x: slide.read(0, y, x, WINDOW_PX, WINDOW_PX))[0]()

    return work, SIDE_PX**2 / 1e6


def ours_remote(folder: Path) -> Prepared:
    """The same through a pipe; start-up of the child included."""
    from slideunet.readers.remote import RemoteReader

    def work() -> None:
        with RemoteReader(str(folder / "slide.svs")) as slide:
            _windows(lambda y, x: slide.read(0, y, x, WINDOW_PX, WINDOW_PX))[0]()

    return work, SIDE_PX**2 / 1e6


def openslide_windows(folder: Path) -> Prepared:
    import numpy as np
    import openslide

    def work() -> None:
        with openslide.OpenSlide(folder / "slide.svs") as slide:
            _windows(lambda y, x: np.asarray(slide.read_region((x, y), 0, (WINDOW_PX, WINDOW_PX))))[
                0
            ]()

    return work, SIDE_PX**2 / 1e6


def tifffile_zarr(folder: Path) -> Prepared:
    import tifffile
    import zarr

    def work() -> None:
        with tifffile.imread(folder / "slide.svs", aszarr=True, level=0) as store:
            array = zarr.open(store, mode="r")
            _windows(lambda y, x: array[y : y + WINDOW_PX, x : x + WINDOW_PX])[0]()

    return work, SIDE_PX**2 / 1e6


def tifffile_segments(folder: Path) -> Prepared:
    import tifffile

    def work() -> None:
        with tifffile.TiffFile(folder / "slide.svs") as file:
            for _ in file.pages[0].segments(maxworkers=1):
                pass

    return work, SIDE_PX**2 / 1e6


def decoded(folder: Path) -> Prepared:
    """Tables of the file's tiles joined beforehand, if they are apart."""
    import imagecodecs
    import tifffile

    with tifffile.TiffFile(folder / "slide.svs") as file:
        page = file.pages[0]
        tables = page.jpegtables
        tiles = [
            data for data, _ in file.filehandle.read_segments(page.dataoffsets, page.databytecounts)
        ]

    def work() -> None:
        for tile in tiles:
            imagecodecs.jpeg8_decode(tile, tables=tables, colorspace="RGB", outcolorspace="RGB")

    return work, SIDE_PX**2 / 1e6
