"""A touched, copied or moved slide is told from a changed one by its content."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from slideunet import store
from slideunet.code_digest import code_of
from slideunet.readers.files import identity
from slideunet.slide_file import load_slide, write_source
from slideunet.slide_identity import bytes_to_read, find_same, identity_of
from slideunet.slide_stat import stat_of


@pytest.fixture
def slides(tmp_path, monkeypatch):
    """id -> path: a file, a slide with a folder of data beside it, a folder; all indexed."""
    monkeypatch.chdir(tmp_path)
    for path in ("raw/a.svs", "raw/b.mrxs", "raw/b/data.dat", "raw/c.zarr/zarr.json"):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write("{}" if path.endswith(".json") else f"content of {path}")
    found = {"a": "raw/a.svs", "b": "raw/b.mrxs", "c": "raw/c.zarr"}
    for slide, path in found.items():
        index(slide, path)
    return found


def index(slide, path):
    """What rule index leaves behind."""

    def build(work):
        facts = identity(path)
        write_source(work.folder, path, facts.pop("mtime_ns"), stat_of(path), stat_of(path))
        work.unlisted.append("source.json")
        return [], facts

    settings = {"index": {"mem_mb": 2000}}
    store.make(f"results/slides/{slide}/slide.json", build, kind="index", settings=settings,
               code={}, inputs={})  # fmt: skip


def test_nothing_is_read_where_nothing_was_touched(slides, capsys):
    assert find_same("results", slides) == set()
    assert {s: identity_of("results", s, p) for s, p in slides.items()} == {
        s: stat_of(p) for s, p in slides.items()
    }
    assert capsys.readouterr().err == ""


def test_a_note_of_an_earlier_version_is_no_note(slides):
    store.write_file(Path("results/slides/a/source.json"), b'{"mtime_ns": 1, "path": "raw/a.svs"}')
    assert find_same("results", slides) == set()
    assert identity_of("results", "a", slides["a"]) == stat_of(slides["a"])


@pytest.mark.parametrize(
    ("slide", "file"), [("a", "raw/a.svs"), ("b", "raw/b/data.dat"), ("c", "raw/c.zarr/zarr.json")]
)
def test_touched(slides, slide, file, capsys):
    """It keeps the size and time it was indexed with; segmentation finds the new time noted."""
    before = stat_of(slides[slide])
    os.utime(file)
    assert stat_of(slides[slide]) != before
    same = find_same("results", slides)
    assert same == {slide}
    assert "1 of 1 slides have the content that was indexed" in capsys.readouterr().err
    assert identity_of("results", slide, slides[slide], same) == before
    # in a job, and in the next call
    assert identity_of("results", slide, slides[slide]) == before
    assert find_same("results", slides) == set()
    assert load_slide(f"results/slides/{slide}/slide.json")["mtime_ns"] == os.stat(file).st_mtime_ns
    os.utime(file)
    assert find_same("results", slides) == {slide}
    assert identity_of("results", slide, slides[slide]) == before, "twice touched"


def test_changed(slides):
    """Of the same size, of another size, and of folders, whose other files do not count."""
    with open("raw/a.svs", "r+") as file:
        file.write("C")
    with open("raw/b/data.dat", "a") as file:
        file.write("more")
    shutil.copy("raw/a.svs", "raw/b/more.dat")
    for path in ("raw/a.svs", "raw/b.mrxs", "raw/c.zarr/zarr.json"):
        os.utime(path)
    assert find_same("results", slides) == {"c"}
    for slide in "ab":
        assert identity_of("results", slide, slides[slide]) == stat_of(slides[slide])


def test_moved(slides):
    """With its time (nothing is read), and without."""
    before = {slide: stat_of(path) for slide, path in slides.items()}
    os.mkdir("archive")
    shutil.move("raw/a.svs", "archive/other.svs")
    shutil.move("raw/b", "archive/b")
    shutil.move("raw/b.mrxs", "archive/b.mrxs")
    os.utime("archive/b.mrxs")
    there = {"a": "archive/other.svs", "b": "archive/b.mrxs", "c": "raw/c.zarr"}
    assert find_same("results", there, read_bytes=0) == {"a"}
    assert find_same("results", there) == {"b"}
    for slide in "ab":
        assert identity_of("results", slide, there[slide]) == before[slide]
        assert load_slide(f"results/slides/{slide}/slide.json")["path"] == there[slide]


def test_what_was_not_indexed_or_is_gone_is_left_alone(slides, tmp_path):
    failed = "results/slides/a/slide.json"
    with open(failed, "w") as file:
        file.write('{"kind": "index", "status": "failed", "failure": {}}')
    os.utime("raw/a.svs")
    os.remove("raw/b.mrxs")
    assert find_same("results", {**slides, "new": "raw/a.svs"}) == set()
    assert identity_of("results", "a", "raw/a.svs") == stat_of("raw/a.svs")
    assert identity_of("results", "new", "raw/a.svs") == stat_of("raw/a.svs")


def test_a_dry_run_writes_nothing_and_reads_no_more_than_it_may(slides, capsys):
    with open("results/slides/a/source.json", "rb") as file:
        before = file.read()
    os.utime("raw/a.svs")
    assert find_same("results", slides, note=False) == {"a"}
    capsys.readouterr()
    assert find_same("results", slides, note=False, read_bytes=3) == set()
    assert "1 slides have another time than when they were indexed and are taken for changed" in (
        capsys.readouterr().err
    )
    with open("results/slides/a/source.json", "rb") as file:
        assert file.read() == before


def test_how_much_a_call_reads():
    assert bytes_to_read(dry_run=False, in_turn=False) > 1e15
    assert bytes_to_read(dry_run=True, in_turn=False) == 50e9
    assert bytes_to_read(dry_run=False, in_turn=True) == 0


def test_the_process_that_waits_for_a_decoder_loads_no_numpy(project):
    """Half a second of each slide's job."""
    code = "import sys, slideunet.job, slideunet.stages.index; print('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project / "workflow" / "scripts", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "False"
    assert "slideunet/slides.py" in code_of(project / "workflow" / "scripts", "index.py")
