"""What a slide's results need is told before they are made; what can't fit is refused at once."""

import os
from pathlib import Path

import numpy as np
import pytest
from made_objects import blobs
from memory_slide import noise, segment
from slideunet import label_pyramid, segmentation, space
from slideunet.errors import UserError
from slideunet.stages import objects as objects_stage
from test_objects_stage import HEIGHT, WIDTH, prepare, run


@pytest.fixture
def asked(monkeypatch):
    """The estimates, and how many files and bytes were there when they were made."""
    found = []

    def note(folder, need, what):
        found.append((need, *taken(folder)))

    for module in (segmentation, objects_stage):
        monkeypatch.setattr(module, "check_space", note)
    return found


def taken(folder: Path, but=("run.json", "owner.json")) -> tuple[int, int]:
    """Files and folders below a folder, and bytes of the files."""
    paths = [path for path in folder.rglob("*") if path.name not in but]
    return len(paths), sum(path.stat().st_size for path in paths if path.is_file())


def test_the_estimate_of_a_segmentation_against_what_it_took(tmp_path, asked):
    pixels = noise(300, 500)
    segment(tmp_path, pixels)
    ((need, files_before, bytes_before),) = asked
    files, size = taken(tmp_path)
    made, grown = files - files_before, size - bytes_before
    assert abs(need.files - made) <= 0.15 * made
    markers = taken(tmp_path / "markers")[1]
    assert need.bytes_least <= grown - markers <= need.bytes_most


def test_what_is_there_already_is_not_asked_for(tmp_path, asked):
    pixels = noise(150, 210)
    segment(tmp_path, pixels)
    segment(tmp_path, pixels)
    assert asked[1][0] == space.Need(0, 0, 0)


def test_what_has_no_tissue_needs_files_and_no_bytes(tmp_path, asked):
    segment(tmp_path, noise(150, 210), has_tissue=lambda window: False)
    assert asked[0][0].files > 20 and asked[0][0].bytes_most == 0


def test_the_estimate_of_objects_against_what_they_took(tmp_path, asked, monkeypatch):
    for module in (label_pyramid, objects_stage):
        monkeypatch.setattr(module, "SHARD_PX", 64)
    monkeypatch.setattr(label_pyramid, "CHUNK_PX", 32)
    folder = prepare(tmp_path, blobs(4, (HEIGHT, WIDTH)))
    content = run(folder, also=["csv", "h5ad"])
    need, *_ = asked[0]
    files = {Path(entry["path"]) for entry in content["files"]}
    folders = {parent for path in files for parent in path.parents} - {Path(".")}
    assert abs(need.files - len(files) - len(folders)) <= 0.15 * len(files)
    size = sum(e["size"] for e in content["files"] if "/c/" in e["path"])
    assert need.bytes_least <= size <= need.bytes_most


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


def test_a_slide_without_room_begins_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda path: Disk(10, 10))
    with pytest.raises(UserError, match="no space left"):
        segment(tmp_path, np.zeros((1, 150, 210), np.uint8) + noise(150, 210))
    assert not list((tmp_path / "markers").iterdir())
