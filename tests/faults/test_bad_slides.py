"""Malformed slides, made by damaging sound ones: each processed or refused, in bounded work."""

import os
import random
import resource
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from slideunet import slides
from slideunet.errors import SlideError
from slideunet.manifest import find_damage, read_manifest
from slideunet.readers import dicom, dicom_frames, tiff, tiled
from slideunet.readers.open import _open
from slideunet.readers.tiff_check import Skeleton, check_tiff
from slideunet.stages.index import index
from test_reader_refusals import WRITERS
from test_segment_stage import INDEX

SECONDS, MEMORY_MB = 10, 1000
SEED = 5


def malformed(data: bytes, chance: random.Random) -> bytes:
    """Bytes changed, most of them in the structure at both ends; parts cut off, doubled, zeroed."""
    broken = bytearray(data)
    kind = chance.choice(["bytes", "head", "tail", "cut", "zeros", "double", "numbers"])
    at = chance.randrange(len(broken))
    if kind == "cut":
        return bytes(broken[:at])
    if kind == "zeros":
        broken[at : at + 4000] = bytes(len(broken[at : at + 4000]))
    elif kind == "double":
        broken[at:at] = broken[max(0, at - 3000) : at]
    else:
        reach = {"head": 600, "tail": 600}.get(kind, len(broken))
        for _ in range(chance.randrange(1, 20)):
            place = chance.randrange(min(reach, len(broken)))
            place = len(broken) - 1 - place if kind == "tail" else place
            if kind == "numbers":  # sizes and offsets at their largest
                broken[place : place + 4] = b"\xff\xff\xff\x7f"
            else:
                broken[place] = chance.randrange(256)
    return bytes(broken)


def index_malformed(folder: Path, count: int) -> tuple[int, int, int]:
    """How many of `count` cases were as promised, how many processed, and the peak in MB.

    The peak is that of this process's children so far: it is to be called in a fresh one.
    """
    chance = random.Random(SEED)
    whole = {}
    for kind, write in WRITERS.items():
        write(folder / f"whole.{kind}")
        whole[kind] = (folder / f"whole.{kind}").read_bytes()
    settings = {**INDEX, "index": {**INDEX["index"], "mem_mb": MEMORY_MB}}
    good, done = 0, 0
    for number in range(count):
        kind = list(whole)[number % len(whole)]
        path = folder / str(number) / f"slide.{kind}"  # alone: a DICOM file has siblings
        path.parent.mkdir()
        path.write_bytes(malformed(whole[kind], chance))
        manifest = path.parent / "slide.json"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        index(slide=str(path), tissue=[], manifest=str(manifest), settings=settings, code={})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        content = read_manifest(manifest)
        if content["status"] == "failed":
            reason = content["failure"]["reason"]
            fine = reason.startswith(str(path)) and "\n" not in reason
            fine = fine and "can't be indexed:" not in reason  # an error that nobody looked at
        else:
            fine = not find_damage(manifest)
            done += 1
        fine = fine and cpu_s < SECONDS and after.ru_maxrss < MEMORY_MB * 1024
        if not fine:
            print(f"{path}: {cpu_s:.1f} s, {after.ru_maxrss >> 10} MB, {content.get('failure')}")
        good += fine
    return good, done, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10


@pytest.mark.parametrize("count", [7, pytest.param(301, marks=pytest.mark.faults)])
def test_malformed_slides_are_processed_or_one_line(tmp_path, figure, count):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        good, done, peak_mb = pool.submit(index_malformed, tmp_path, count).result()
    print(f"seed {SEED}: {done} of {count} processed, the others refused; at most {peak_mb} MB")
    assert peak_mb > 10  # children were measured
    figure(f"malformed slides, within {SECONDS} s and {MEMORY_MB} MB", count, count, good)


def check_nothing(path: str) -> Skeleton:
    """What stands in a TIFF file, as far as it can be read: nothing is refused."""
    try:
        return check_tiff(path)
    except SlideError:
        return Skeleton(os.path.getsize(path))


def take_checks_away() -> None:
    """Nothing looks at a slide first, and what a reader then meets is nobody's to explain."""
    slides.open_slide, tiff.check_tiff = _open, check_nothing
    for reader in (dicom, dicom_frames, tiff, tiled):  # they pass on errors of the machine
        reader.machine_failed = lambda error: True


def index_all(paths: Iterable[Path], folder: Path) -> list[str]:
    """Errors other than refusals that slides end in, without the limits of a child process."""
    found = []
    for path in paths:
        try:
            slides.index_slide(str(path), INDEX, folder)
        except SlideError:
            pass
        except Exception as error:
            found.append(f"{path.name}: {error!r}")
    return found


def malformed_slides(folder: Path, count: int) -> Iterator[Path]:
    """The first `count` slides of the test above."""
    chance = random.Random(SEED)
    for number in range(count):
        kind = list(WRITERS)[number % len(WRITERS)]
        path = folder / str(number) / f"slide.{kind}"
        path.parent.mkdir(parents=True)
        WRITERS[kind](path)
        assert index_all([path], path.parent) == []  # sound, it goes through
        path.write_bytes(malformed(path.read_bytes(), chance))
        yield path


def index_with_and_without(folder: Path, count: int) -> tuple[list[str], list[str]]:
    """The errors with the checks, and without them; to be called in a fresh process."""
    protected = index_all(malformed_slides(folder / "with", count), folder)
    take_checks_away()
    return protected, index_all(malformed_slides(folder / "without", count), folder)


def test_without_its_checks_they_end_in_errors_that_nobody_looked_at(tmp_path):
    """The mutation check: the test above would find what the checks keep away."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        protected, found = pool.submit(index_with_and_without, tmp_path, 14).result()
    print(found)
    assert found and not protected
