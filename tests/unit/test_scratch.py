"""A slide copied to the node's own disk: the same bytes, gone on every exit."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import test_segment_stage as stage
from memory_slide import digest
from slideunet import scratch
from slideunet.errors import SlideError, UserError
from slideunet.job import Stopped
from slideunet.scratch import staged
from slideunet.stages import segment as segment_stage

archive = stage.archive


@pytest.fixture
def node(tmp_path):
    """The node's own folder."""
    folder = tmp_path / "node"
    folder.mkdir()
    return folder


@pytest.fixture
def slide(tmp_path):
    path = tmp_path / "slides" / "a.svs"
    path.parent.mkdir()
    path.write_bytes(os.urandom(1000))
    os.utime(path, ns=(5, 1_700_000_000_123_456_789))
    return str(path)


def test_the_copy_is_the_slide_and_is_gone_afterwards(node, slide):
    with staged(slide, str(node)) as path:
        assert path != slide
        assert Path(path).read_bytes() == Path(slide).read_bytes()
        assert os.stat(path).st_mtime_ns == os.stat(slide).st_mtime_ns
        assert os.path.basename(path) == "a.svs"
    assert list(node.iterdir()) == []


def test_an_empty_setting_reads_in_place(slide):
    with staged(slide, "") as path:
        assert path == slide


def test_files_beside_the_slide_go_along(node, slide):
    mrxs = slide.replace("a.svs", "b.mrxs")
    os.mkdir(mrxs[:-5])
    for name in (mrxs, f"{mrxs[:-5]}/Data0001.dat"):
        with open(name, "wb") as file:
            file.write(b"x" * 10)
    with staged(mrxs, str(node)) as path:
        assert os.path.getsize(os.path.join(path[:-5], "Data0001.dat")) == 10
        assert not os.path.exists(os.path.join(os.path.dirname(path), "a.svs"))


def test_a_folder_is_copied_as_one(node, slide):
    folder = slide.replace("a.svs", "c.ome.zarr")
    os.makedirs(f"{folder}/0")
    for name in ("zarr.json", "0/chunk"):
        with open(f"{folder}/{name}", "wb") as file:
            file.write(b"x")
    with staged(folder, str(node)) as path:
        assert sorted(os.listdir(path)) == ["0", "zarr.json"]
        assert os.listdir(f"{path}/0") == ["chunk"]


@pytest.mark.parametrize("error", [Stopped("leave"), RuntimeError("crash"), KeyboardInterrupt()])
def test_gone_whatever_ends_the_job(node, slide, error):
    with pytest.raises(type(error)), staged(slide, str(node)):
        raise error
    assert list(node.iterdir()) == []


def test_a_stop_ends_the_copying(node, slide):
    def stop():
        raise Stopped("leave")

    with pytest.raises(Stopped), staged(slide, str(node), stop):
        pytest.fail("copied to the end")
    assert list(node.iterdir()) == []


def test_errors_name_the_slide_not_its_copy(node, slide):
    with pytest.raises(SlideError, match="tile 3") as error, staged(slide, str(node)) as path:
        raise SlideError(f"{path}: tile 3 does not decode")
    assert str(error.value) == f"{slide}: tile 3 does not decode"


def test_notes_for_the_log_come_along_and_name_the_slide(node, slide):
    with pytest.raises(SlideError) as caught, staged(slide, str(node)) as path:
        error = SlideError("a tile does not decode")
        error.add_note(f"{path}: tile 3")
        raise error
    assert caught.value.__notes__ == [f"{slide}: tile 3"]


def test_without_room_the_slide_is_read_in_place(node, slide, monkeypatch, caplog):
    usage = shutil.disk_usage(node)._replace(free=scratch.SPARE_BYTES + 999)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with staged(slide, str(node)) as path:
        assert path == slide
    assert "no room" in caplog.text


def test_the_folder_of_the_environment(node, slide, monkeypatch):
    monkeypatch.setenv("NODE_DISK", str(node))
    with staged(slide, "$NODE_DISK") as path:
        assert path.startswith(str(node))
    for wrong in ("$NOT_SET_HERE", str(node / "none")):
        with pytest.raises(UserError, match="config: scratch"), staged(slide, wrong):
            pass


def test_what_a_killed_job_left_is_swept_and_a_running_job_s_copy_is_not(node, slide, project):
    code = (
        "import sys; from slideunet.scratch import staged\n"
        "with staged(sys.argv[1], sys.argv[2]) as path: print(path, flush=True); sys.stdin.read()"
    )
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", code, slide, str(node)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(project / "workflow" / "scripts")},
        )
        for _ in range(2)
    ]  # fmt: skip
    running, killed = (job.stdout.readline().strip() for job in jobs)
    jobs[1].send_signal(signal.SIGKILL)
    jobs[1].communicate()
    assert os.path.exists(killed), "nobody could clean up"
    with staged(slide, str(node)):
        assert not os.path.exists(killed)
        assert os.path.exists(running)
    jobs[0].communicate()
    assert list(node.iterdir()) == []


def test_a_slide_segmented_from_its_copy_gives_the_same_bytes(tmp_path, archive, node, monkeypatch):
    opened = []
    real = segment_stage.open_source

    def spy(path, *rest):
        opened.append(path)
        return real(path, *rest)

    monkeypatch.setattr(segment_stage, "open_source", spy)
    expected = stage.run(tmp_path / "in-place", archive)
    assert set(opened) == {str(archive["file"])}
    opened.clear()
    assert stage.run(tmp_path / "copied", archive, scratch=str(node)) == expected
    assert opened and all(path.startswith(str(node)) for path in opened)
    assert digest(tmp_path / "copied") == digest(tmp_path / "in-place")
    assert list(node.iterdir()) == []
