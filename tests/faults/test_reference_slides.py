"""Every odd, damaged or hostile file at hand through stage index: within limits, one line each."""

import resource
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from slideunet.stages.index import index
from slideunet.store import find_damage, read_manifest
from test_bad_slides import index_all, take_checks_away
from test_segment_stage import INDEX

CPU_S, MEMORY_MB = 10, 1000


def files_of(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix not in (".csv", ".md"))
    assert found, f"{folder} holds no files"
    return found


@pytest.mark.faults
@pytest.mark.parametrize(("name", "usable"), [("slides", 10), ("broken", 70)])
def test_each_file_is_indexed_or_refused_with_one_line(
    tmp_path, reference_data, figure, name, usable
):
    settings = {**INDEX, "index": {**INDEX["index"], "thumbnail_px": 1024, "mem_mb": MEMORY_MB}}
    statuses = Counter()
    for number, path in enumerate(files_of(reference_data / name)):
        manifest = tmp_path / str(number) / "slide.json"
        manifest.parent.mkdir()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        index(slide=str(path), tissue=[], manifest=str(manifest), settings=settings, code={})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        assert cpu_s < CPU_S, f"{path}: {cpu_s:.1f} s of CPU time"
        assert after.ru_maxrss < MEMORY_MB * 1024, f"{path} or one before it"
        content = read_manifest(manifest)
        statuses[content["status"]] += 1
        print(f"{cpu_s:6.2f} s {content['status']:6s} {path.name}", content.get("failure", ""))
        if content["status"] == "failed":
            reason = content["failure"]["reason"]
            assert reason.startswith(str(path)) and "\n" not in reason
            assert "can't be indexed:" not in reason, f"nobody has looked at this: {reason}"
        else:
            assert not find_damage(manifest)
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{name}: {dict(statuses)}, peak memory {peak_mb:.0f} MB")
    assert statuses["done"] >= usable, statuses
    figure(
        f"reference files, {name}, within {CPU_S} s and {MEMORY_MB} MB", 1, number + 1, number + 1
    )


def index_unprotected(paths: list[Path], folder: Path) -> tuple[list[str], list[str]]:
    """Errors other than refusals, with the checks and without; to be called in a fresh process."""
    protected = index_all(paths, folder)
    take_checks_away()
    return protected, index_all(paths, folder)


def test_without_the_checks_broken_files_end_in_errors_that_nobody_looked_at(
    tmp_path, reference_data
):
    """The mutation check. The first files are fuzzers' finds, small and quickly refused."""
    paths = files_of(reference_data / "broken")[:4]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        protected, found = pool.submit(index_unprotected, paths, tmp_path).result()
    print(found)
    assert found and not protected
