"""What a slide's results need is told before they are made; what can't fit is refused at once."""

import itertools
import logging
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
from made_objects import blobs
from memory_slide import arrays, digest, noise, segment
from slideunet import label_pyramid, objects_space, segmentation_space, slide_source, space
from slideunet.errors import SlideError, UserError
from slideunet.readers.base import Level, SlideReader
from slideunet.readers.remote import RemoteReader
from slideunet.resample import SlideView
from slideunet.slide_source import SlideSource
from slideunet.stages import objects as objects_stage
from slideunet.store import Superseded
from test_objects_stage import HEIGHT, WIDTH, prepare, run

# What the estimates promise.
WITHIN = 0.15


@pytest.fixture
def asked(monkeypatch):
    """The estimates, and how many files and bytes were there when they were made."""
    found = []

    def note(folder, need, what):
        found.append((need, *taken(folder)))

    for module in (segmentation_space, objects_stage):
        monkeypatch.setattr(module, "check_space", note)
    return found


@pytest.fixture
def scarce(monkeypatch):
    """Little enough is free that a sample is worth its time; nothing is refused."""
    for module in (segmentation_space, objects_stage):
        monkeypatch.setattr(module, "free_bytes", lambda folder: 0)


def taken(folder: Path, but=("run.json", "owner.json")) -> tuple[int, int]:
    """Files and folders below a folder, and bytes of the files but of a resumed job's markers."""
    paths = [path for path in folder.rglob("*") if path.name not in but]
    sizes = [p.stat().st_size for p in paths if p.is_file() and p.parent.name != "markers"]
    return len(paths), sum(sizes)


def check_estimate(folder: Path, asked: list) -> None:
    """The last estimate against what has come to lie in the folder since."""
    need, files_before, bytes_before = asked[-1]
    files, size = taken(folder)
    made, grown = files - files_before, size - bytes_before
    assert abs(need.files - made) <= WITHIN * made
    assert abs(need.estimate.size / grown - 1) <= WITHIN
    assert need.estimate.error <= WITHIN
    assert need.bytes_least <= grown <= need.bytes_most + 10_000  # the index of each shard


@pytest.mark.parametrize("ngff", ["0.5", "0.4"])
def test_the_estimate_of_a_segmentation_against_what_it_took(tmp_path, asked, scarce, ngff):
    segment(tmp_path, noise(300, 500), settings={"ngff": ngff})
    check_estimate(tmp_path, asked)


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_of_a_slide_with_little_tissue_too(tmp_path, asked, scarce, share):
    pixels = noise(800, 800)
    segment(tmp_path, pixels, has_tissue=lambda window: window.y + window.x < 1600 * share)
    check_estimate(tmp_path, asked)


@pytest.mark.parametrize("shard_px", [512, 4096])
def test_the_estimate_of_a_real_slide(tmp_path, asked, scarce, reference_data, shard_px):
    pixels = tifffile.imread(reference_data / "slides" / "CMU-1-Small-Region.svs")
    settings = {"chunk_px": 256, "shard_px": shard_px, "tile_px": 256}
    segment(tmp_path, np.moveaxis(pixels, -1, 0), settings=settings, classes=3)
    check_estimate(tmp_path, asked)


def test_what_is_there_already_is_not_asked_for(tmp_path, asked, scarce):
    pixels = noise(300, 500)
    segment(tmp_path, pixels)
    (whole, *_), (store,) = asked[0], tmp_path.glob("*.zarr")
    for path in (tmp_path / "markers").glob("[12].*"):
        path.unlink()
    higher = sum(path.stat().st_size for level in (1, 2, 3, 4) for path in
                 (*store.glob(f"{level}/c/**/*"), *store.glob(f"labels/classes/{level}/c/**/*"))
                 if path.is_file())  # fmt: skip
    assert 0 < higher < whole.estimate.size / 2
    segment(tmp_path, pixels)
    assert abs(asked[1][0].estimate.size / higher - 1) <= WITHIN
    segment(tmp_path, pixels)
    assert asked[2][0] == space.Need(0, 0, 0)


def test_what_has_no_tissue_needs_files_and_next_to_no_bytes(tmp_path, asked, scarce):
    segment(tmp_path, noise(150, 210), has_tissue=lambda window: False)
    need, _, bytes_before = asked[0]
    assert need.files > 20 and need.bytes_most == 0
    grown = taken(tmp_path)[1] - bytes_before
    assert abs(need.estimate.size / grown - 1) <= WITHIN


def test_where_all_may_fit_a_small_slide_is_not_sampled(tmp_path, asked, monkeypatch):
    computed = []
    sampled = segmentation_space._block
    monkeypatch.setattr(
        segmentation_space, "_block", lambda *told: computed.append(told) or sampled(*told)
    )
    segment(tmp_path / "small", noise(300, 500))
    assert asked[0][0].estimate is None and not computed
    monkeypatch.setattr(segmentation_space, "SHARE", 1 / 8)
    segment(tmp_path / "large", noise(300, 500))
    assert asked[1][0].estimate.size and 12 <= len(computed) <= 160 / 8


def test_the_estimate_changes_no_byte(tmp_path, asked, monkeypatch):
    segment(tmp_path / "not", noise(150, 210))
    monkeypatch.setattr(segmentation_space, "free_bytes", lambda folder: 0)
    segment(tmp_path / "sampled", noise(150, 210))
    assert asked[0][0].estimate is None and asked[1][0].estimate is not None
    assert digest(tmp_path / "not") == digest(tmp_path / "sampled")


class LosingReader(SlideReader):
    """What a RemoteReader does whose decoder dies at one pixel: the window asked for is lost."""

    def __init__(self, pixels: np.ndarray, place: tuple[int, int]):
        super().__init__("memory")
        self.levels, self.channels = [Level(*pixels.shape[1:], 1.0)], ["grey"]
        self.dtype, self.mask_bad_tiles = pixels.dtype, True
        self._pixels, self._place, self._of_thread = pixels, place, threading.local()
        self._bad_tiles: set = set()

    _lost = RemoteReader._lost
    bad_windows_here = RemoteReader.bad_windows_here

    def _read(self, level, y, x, height, width):
        if y <= self._place[0] < y + height and x <= self._place[1] < x + width:
            self.bad_tile("its decoder crashes", (level, y, x, height, width))
            self._lost.add((level, y, x, height, width))
            return np.zeros((1, height, width), self.dtype)
        return self._pixels[:, y : y + height, x : x + width]

    def _close(self):
        pass


@pytest.mark.parametrize("place", [(60, 100), (60, 150), (90, 130)])
def test_where_a_decoder_dies_neither_sample_nor_threads_change_a_byte(
    tmp_path, monkeypatch, place
):
    pixels = noise(256, 256)
    monkeypatch.setattr(slide_source, "BAND_BYTES", 256 * 100)
    found = {}
    for free, threads, shard_px in itertools.product((10**12, 0), (1, 3), (256, 64)):
        monkeypatch.setattr(segmentation_space, "free_bytes", lambda folder, free=free: free)
        slide = SlideSource(SlideView(LosingReader(pixels, place), (1.0, 1.0)))
        folder = tmp_path / f"{free}-{threads}-{shard_px}"
        settings = {"shard_px": shard_px, "chunk_px": 32, "tile_px": 64, "threads": threads}
        segment(folder, pixels, slide=slide, settings=settings)
        found.setdefault(shard_px, set()).add(digest(folder))
        assert (arrays(folder)[1] == 255).any()
    assert [len(digests) for digests in found.values()] == [1, 1]


def test_a_sample_is_spread_whatever_its_size():
    for count in (1, 2, 7, 100):
        assert sorted(space.spread(count)) == list(range(count))
    for size in (5, 12, 40):
        first = sorted(n for n, _ in zip(space.spread(1000), range(size), strict=False))
        gaps = np.diff([0, *first, 1000])
        assert gaps.max() < 2.7 * 1000 / (size + 1)


def test_squares_that_differ_make_the_estimate_less_exact():
    areas = np.full(16, 100)
    assert segmentation_space._error(np.full(16, 7), areas, 1000, 1) < 1e-9
    sizes = np.tile([5, 15], 8)
    found = segmentation_space._error(sizes, areas, 10**6, 1)
    assert found == pytest.approx(2 * sizes.std(ddof=1) / 4 / 10, rel=1e-3)
    assert segmentation_space._error(sizes, areas, 16, 1) == 0  # all of them


def test_squares_that_hold_nothing_say_little_of_the_others():
    areas = np.full(12, 100)
    found = segmentation_space._error(np.full(12, 4), areas, 10**6, 1)
    assert found == pytest.approx(3 / 12 * 100 / 4, rel=1e-3)  # a quarter of them may be full


def test_a_spot_on_an_empty_slide_is_looked_for(tmp_path, asked, scarce):
    """Twelve squares of such a slide are alike, and hold nothing."""
    pixels = np.full((1, 1536, 1536), 230, np.uint8)
    pixels[:, :256, :256] = noise(256, 256)
    segment(tmp_path, pixels, settings={"shard_px": 512, "chunk_px": 128, "tile_px": 128})
    need, _, bytes_before = asked[0]
    grown = taken(tmp_path)[1] - bytes_before
    assert 0.1 < need.estimate.error < 0.2
    assert abs(need.estimate.size / grown - 1) <= need.estimate.error


def test_a_sample_s_bad_place_ends_as_without_it(tmp_path, monkeypatch):
    pixels = noise(200, 260, dtype="float32")
    pixels[0, 96, 96] = np.nan  # in what one shard reads, and no other
    told = []
    for free in (10**12, 0):
        monkeypatch.setattr(segmentation_space, "free_bytes", lambda folder, free=free: free)
        with pytest.raises(SlideError, match="not finite") as caught:
            segment(tmp_path / str(free), pixels)
        told.append(str(caught.value))
    assert told[0] == told[1]


@pytest.mark.parametrize("also", [[], ["csv", "h5ad"]])
def test_the_estimate_of_objects_against_what_they_took(tmp_path, asked, scarce, monkeypatch, also):
    for module in (label_pyramid, objects_stage):
        monkeypatch.setattr(module, "SHARD_PX", 64)
    monkeypatch.setattr(label_pyramid, "CHUNK_PX", 32)
    monkeypatch.setattr(objects_space, "SIDE_PX", 128)
    folder = prepare(tmp_path, blobs(4, (4 * HEIGHT, 4 * WIDTH)))
    content = run(folder, also=also)
    need, *_ = asked[0]
    files = {Path(entry["path"]) for entry in content["files"]}
    folders = {parent for path in files for parent in path.parents} - {Path(".")}
    assert abs(need.files - len(files) - len(folders)) <= WITHIN * len(files)
    size = sum(e["size"] for e in content["files"] if not e["path"].endswith("zarr.json"))
    size -= sum(e["size"] for e in content["files"] if e["path"] == objects_stage.NEXT)
    assert abs(need.estimate.size / size - 1) <= WITHIN
    assert not [*folder.rglob("sample-*"), *folder.rglob("full")]


class Disk:
    """What os.statvfs says."""

    f_frsize = 1

    def __init__(self, free: int, files: int, table: int = 1000):
        self.f_bavail, self.f_favail, self.f_files = free, files, table


@pytest.mark.parametrize(
    ("disk", "fits"),
    [
        (Disk(999, 50), False),
        (Disk(1000, 49), False),
        (Disk(1000, 50), True),
        (Disk(1000, 0, table=0), True),  # a file system that does not tell
    ],
)
def test_what_can_not_fit_is_one_line(tmp_path, monkeypatch, disk, fits):
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    need = space.Need(50, 1000, 9000)
    if fits:
        space.check_space(tmp_path, need, "segmentation of a.svs")
        return
    with pytest.raises(UserError, match="a.svs: needs at least 0.0 MB and 50 files") as caught:
        space.check_space(tmp_path, need, "segmentation of a.svs")
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("free", "ends"), [(9_000_000, "refused"), (10_000_000, "warned"), (11_100_000, "fits")]
)
def test_the_estimate_decides_between_the_bounds(tmp_path, monkeypatch, caplog, free, ends):
    monkeypatch.setattr(os, "statvfs", lambda path: Disk(free, 99))
    need = space.Need(50, 1000, 10**9, space.Estimate(10_000_000, 0.08))
    caplog.set_level(logging.INFO, "unet-slides")
    if ends == "refused":
        with pytest.raises(UserError, match=r"needs at least 9.3 MB .*free there: 9.0 MB"):
            space.check_space(tmp_path, need, "objects")
        return
    space.check_space(tmp_path, need, "objects")
    assert "50 files, about 10.0 MB (within 8%)" in caplog.text
    assert ("may not fit" in caplog.text) == (ends == "warned")


def test_a_sample_that_says_little_leaves_what_is_known_without_it():
    need = space.Need(50, 1000, 2_000_000, space.Estimate(200_000, 90.0))
    assert need.bounds == (200_000 / 91, 2_000_000)
    assert str(need) == "50 files, about 0.2, at most 2.0 MB"


def test_what_a_killed_sample_left_is_swept(tmp_path, scarce, monkeypatch):
    folder = prepare(tmp_path, blobs(4, (HEIGHT, WIDTH)))
    left, estimate = [], objects_stage.estimate

    def killed_before(work, instances, write):
        (work / "sample-killed").mkdir()
        found = estimate(work, instances, write)
        left.append(list(work.glob("sample-*")))
        return found

    monkeypatch.setattr(objects_stage, "estimate", killed_before)
    run(folder)
    assert left == [[]], "asked once, and nothing is left"


def test_objects_of_a_job_that_was_taken_over_are_not_written(tmp_path, monkeypatch):
    folder = prepare(tmp_path, blobs(4, (HEIGHT, WIDTH)))
    find = objects_stage._find

    def taken_over(found, options, workers):
        (work,) = folder.glob(".objects.work-*")
        work.rename(folder / "another's")
        return find(found, options, workers)

    monkeypatch.setattr(objects_stage, "_find", taken_over)
    monkeypatch.setattr(objects_stage, "check_space", lambda *told: None)
    monkeypatch.setattr(objects_stage.Made, "estimate", lambda *told: None)
    with pytest.raises(Superseded):
        run(folder)
    assert not list(folder.glob(".objects.work-*")), "its folder is not made anew"


def test_a_slide_without_room_begins_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda path: Disk(10, 10))
    with pytest.raises(UserError, match="no space left"):
        segment(tmp_path, np.zeros((1, 150, 210), np.uint8) + noise(150, 210))
    assert not list((tmp_path / "markers").iterdir())


def test_a_slide_that_the_sample_shows_to_be_too_large_begins_nothing(tmp_path, asked, monkeypatch):
    pixels = noise(300, 500)
    monkeypatch.setattr(segmentation_space, "free_bytes", lambda folder: 0)
    segment(tmp_path / "whole", pixels)
    size = asked[0][0].estimate.size
    monkeypatch.undo()
    monkeypatch.setattr(os, "statvfs", lambda path: Disk(int(size * 0.7), 10_000))
    with pytest.raises(UserError, match="no space left"):
        segment(tmp_path, pixels)
    assert not list((tmp_path / "markers").iterdir())
