"""Artefacts survive kills at any step, and nothing damaged passes for whole."""

import json
import os

import pytest
from slideunet import store
from slideunet.errors import SlideError, UserError
from slideunet.manifest import sealed


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code under test catches it."""


def build(work):
    (work.folder / "data").mkdir(exist_ok=True)
    (work.folder / "data" / "a.bin").write_bytes(b"a" * 1000)
    (work.folder / "b.txt").write_text("b")
    return ["data", "b.txt"], {"answer": 42}


def make(folder, build=build, **changes):
    source = folder / "input.json"
    if not source.exists():
        source.write_bytes(sealed({"kind": "x", "status": "done", "files": []}))
    arguments = {
        "kind": "test",
        "settings": {"b": 1, "a": 2},
        "code": {"m.py": "123"},
        "inputs": {"source": source},
        **changes,
    }
    return store.make(folder / "out" / "id.json", build, **arguments)


def content_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_publishes_data_and_manifest_and_leaves_nothing_else(tmp_path):
    manifest = make(tmp_path)
    files = content_of(tmp_path / "out")
    assert set(files) == {"id.json", "data/a.bin", "b.txt"}
    assert json.loads(files["id.json"]) == manifest
    assert [(e["path"], e["size"]) for e in manifest["files"]] == [
        ("b.txt", 1),
        ("data/a.bin", 1000),
    ]
    assert manifest["inputs"] == {"source": store.sha256_of_file(tmp_path / "input.json")}
    assert "code" not in manifest, "a code change that changes no result must change no manifest"


def test_same_work_gives_the_same_manifest(tmp_path):
    make(tmp_path)
    first = content_of(tmp_path / "out")
    make(tmp_path, code={"m.py": "456"})
    assert content_of(tmp_path / "out") == first


def count_steps(folder, monkeypatch, stop_at):
    """Run `make`, counting renames and flushes; die before number `stop_at`. Returns the count."""
    steps = 0

    def counted(function):
        def step(*arguments, **keywords):
            nonlocal steps
            steps += 1
            if steps == stop_at:
                raise Killed
            return function(*arguments, **keywords)

        return step

    with monkeypatch.context() as patch:
        for name in ("rename", "replace", "fsync"):
            patch.setattr(os, name, counted(getattr(os, name)))
        make(folder)
    return steps


def test_killed_before_each_step_then_called_again(tmp_path, monkeypatch):
    calm = tmp_path / "calm"
    calm.mkdir()
    total = count_steps(calm, monkeypatch, stop_at=0)
    assert total >= 8
    for step in range(1, total + 1):
        folder = tmp_path / f"killed-{step}"
        folder.mkdir()
        with pytest.raises(Killed):
            count_steps(folder, monkeypatch, stop_at=step)
        manifest = folder / "out" / "id.json"
        if manifest.exists():
            assert store.find_damage(manifest) == [], f"step {step} left a manifest over half data"
        make(folder)
        assert content_of(folder / "out") == content_of(calm / "out"), f"killed before step {step}"


def test_all_that_is_published_has_been_flushed(tmp_path, monkeypatch):
    """Files, and each folder down to them: one that is lost takes what is in it along."""
    flushed = set()
    fsync = os.fsync

    def note(descriptor):
        flushed.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def deep(work):
        inner = work.folder / "data" / "0" / "c"
        inner.mkdir(parents=True)
        (inner / "1").write_bytes(b"1")
        return ["data"], {}

    monkeypatch.setattr(os, "fsync", note)
    make(tmp_path, build=deep)
    out = tmp_path / "out"
    missing = [path for path in [out, *out.rglob("*")] if path.stat().st_ino not in flushed]
    assert [path.name for path in missing if path.name != "id.json"] == []


def test_a_cut_off_publication_is_finished_without_building_again(tmp_path, monkeypatch):
    rename = os.rename

    def die_at_manifest(source, target):
        if str(target).endswith("id.json"):
            raise Killed
        rename(source, target)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "rename", die_at_manifest)
        make(tmp_path)

    def never(work):
        raise AssertionError("built again")

    make(tmp_path, never)
    assert store.find_damage(tmp_path / "out" / "id.json") == []


def test_work_of_other_settings_is_not_reused(tmp_path):
    def leave_half(work):
        (work.folder / "half").write_text(json.dumps(sorted(p.name for p in work.folder.iterdir())))
        raise Killed

    for settings in ({"a": 1}, {"a": 2}):
        with pytest.raises(Killed):
            make(tmp_path, leave_half, settings=settings)
    folders = list((tmp_path / "out").glob(".id.work-*"))
    assert len(folders) == 1
    assert "half" not in json.loads((folders[0] / "half").read_text())


def die_at_manifest(folder, monkeypatch, **changes):
    """Make the artefact, and die when all but the manifest is published."""
    rename = os.rename

    def die(source, target):
        if str(target).endswith("id.json"):
            raise Killed
        rename(source, target)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "rename", die)
        make(folder, **changes)


def test_what_was_published_and_damaged_before_the_manifest_is_made_again(tmp_path, monkeypatch):
    """The earlier artefact that it replaced still lies in the work folder."""
    make(tmp_path, settings={"a": 0})
    die_at_manifest(tmp_path, monkeypatch)
    assert not (tmp_path / "out" / "id.json").exists(), "the earlier manifest over other data"
    (tmp_path / "out" / "data" / "a.bin").write_bytes(b"a" * 999)
    make(tmp_path)
    assert store.find_damage(tmp_path / "out" / "id.json") == []


@pytest.mark.parametrize("left", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_work_folder_that_is_half_removed_is_nothing_to_go_on_from(
    tmp_path, monkeypatch, left, damaged
):
    """Killed while the work folder goes; then Snakemake takes the manifest away to run again."""

    def going_on(work):
        """As a stage that goes on from its marker: then the data must be there."""
        if not (work.folder / "begun").exists():
            build(work)
            (work.folder / "begun").touch()
        return ["data", "b.txt"], {"answer": 42}

    def killed_amidst(folder, ignore_errors=False):
        for path in sorted(folder.iterdir(), reverse=True)[left:]:
            path.unlink()
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(store.shutil, "rmtree", killed_amidst)
        make(tmp_path, going_on)
    whole = content_of(tmp_path / "out")
    whole = {name: data for name, data in whole.items() if not name.startswith(".")}
    (tmp_path / "out" / "id.json").unlink()
    if damaged:
        (tmp_path / "out" / "b.txt").write_text("c")
    make(tmp_path, going_on)
    assert content_of(tmp_path / "out") == whole


def test_each_flipped_bit_of_a_manifest_is_found(tmp_path):
    make(tmp_path)
    path = tmp_path / "out" / "id.json"
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(
            content[:position]
            + bytes([content[position] ^ 1 << position % 8])
            + content[position + 1 :]
        )
        with pytest.raises(UserError, match=r"id\.json"):
            store.load(path)


def test_what_an_earlier_owner_still_writes_does_not_land_in_its_successors_folder(tmp_path):
    seen = []

    def slow(work):
        build(work)
        make(tmp_path)  # another job takes over and publishes
        seen.append(work.folder)
        (work.folder / "data" / "a.bin").write_bytes(b"late")

    with pytest.raises(store.Superseded):
        make(tmp_path, slow)
    assert not seen[0].exists()
    assert store.find_damage(tmp_path / "out" / "id.json") == []


def test_a_pipe_in_the_place_of_a_file_is_damage(tmp_path):
    make(tmp_path)
    path = tmp_path / "out" / "data" / "a.bin"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="no file"):
        store.load(tmp_path / "out" / "id.json")


def test_an_earlier_owner_can_not_publish(tmp_path):
    def taken_over(work):
        names, facts = build(work)
        (work.folder / store.OWNER).write_bytes(store.to_json({"job": "another"}))
        return names, facts

    with pytest.raises(store.Superseded, match="another"):
        make(tmp_path, taken_over)
    assert not (tmp_path / "out" / "id.json").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(b"a" * 999), "999 bytes instead of 1000"),
        (lambda path: path.write_bytes(b"a" * 999 + b"b"), "checksum differs"),
    ],
)
def test_damage_is_named_and_refused(tmp_path, damage, message):
    make(tmp_path)
    damage(tmp_path / "out" / "data" / "a.bin")
    with pytest.raises(UserError, match=message) as error:
        store.load(tmp_path / "out" / "id.json")
    assert "a.bin" in str(error.value)


def test_a_bad_slide_is_a_failed_manifest_and_is_passed_on(tmp_path):
    def bad(work):
        raise SlideError("slide.svs: tile 3 does not decode")

    make(tmp_path, bad, slide=True)
    failed = tmp_path / "out" / "id.json"
    assert store.load(failed, allow_failed=True)["failure"] == {
        "stage": "test",
        "reason": "slide.svs: tile 3 does not decode",
    }
    with pytest.raises(UserError, match="tile 3"):
        store.load(failed)
    later = store.make(
        tmp_path / "out" / "later.json",
        build,
        kind="later",
        settings={},
        code={},
        inputs={"slide": [failed]},
        slide=True,
    )
    assert later["status"] == "failed"
    assert later["failure"]["stage"] == "test"


def test_a_bad_training_image_is_an_error(tmp_path):
    def bad(work):
        raise SlideError("image.tif: unreadable")

    with pytest.raises(SlideError):
        make(tmp_path, bad)
    assert not (tmp_path / "out" / "id.json").exists()


def test_replaces_what_was_there(tmp_path):
    make(tmp_path)

    def other(work):
        (work.folder / "data").mkdir()
        (work.folder / "data" / "c.bin").write_bytes(b"c")
        return ["data"], {}

    make(tmp_path, other, settings={"a": 3})
    assert set(content_of(tmp_path / "out")) == {"id.json", "data/c.bin", "b.txt"}


def test_nan_is_no_json():
    with pytest.raises(ValueError, match="JSON"):
        store.to_json({"loss": float("nan")})


def test_a_packed_job_that_failed_finds_what_is_done(tmp_path, monkeypatch):
    """Snakemake took the manifest away, since another slide of the job failed."""
    monkeypatch.setenv(store.PACKED, "1")
    manifest = tmp_path / "out" / "id.json"
    make(tmp_path)
    whole = content_of(tmp_path / "out")
    built = []

    def build_again(work):
        built.append(work)
        return build(work)

    for _ in range(2):
        manifest.unlink()
        make(tmp_path, build_again)
        again = content_of(tmp_path / "out")
        assert {name: again[name] for name in whole if ".work-" not in name} == {
            name: data for name, data in whole.items() if ".work-" not in name
        }
        assert built == []
    (tmp_path / "out" / "b.txt").write_text("c")
    make(tmp_path, build_again)
    assert len(built) == 1, "damaged"
    make(tmp_path, build_again, code={"m.py": "456"})
    assert len(built) == 2, "other code"

    store.forget_work(manifest)
    assert {name for name in content_of(tmp_path / "out")} == {"id.json", "data/a.bin", "b.txt"}
    make(tmp_path, build_again, code={"m.py": "456"})
    assert len(built) == 3, "the job had succeeded: someone wants it made anew"


def test_a_slide_that_failed_is_tried_again_in_a_packed_job_too(tmp_path, monkeypatch):
    monkeypatch.setenv(store.PACKED, "1")

    def fail(work):
        raise SlideError("broken")

    assert make(tmp_path, fail, slide=True)["status"] == "failed"
    assert make(tmp_path, slide=True)["status"] == "done"
