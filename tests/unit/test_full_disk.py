"""A file system that fills up or fails: one line with the path, nothing that looks whole."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from slideunet import checkpoints, durable

# Run in a mount namespace of its own: a small tmpfs over the folder `disk`.
CHILD = """\
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from slideunet.job import job
from slideunet import store

folder = Path("disk")
blocks = int(sys.argv[2])

def build(work):
    for number in range(blocks):
        store.write_file(work.folder / f"{number}.bin", bytes([number]) * 2**18)
    return [f"{number}.bin" for number in range(blocks)], {"blocks": blocks}

if len(sys.argv) > 3:  # of a file, bytes
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)

with job(log_file="log.txt"):
    store.make(folder / "a.json", build, kind="a", settings={}, code={}, inputs={})
"""


def on_small_disk(folder: Path, project: Path, limit: str, commands: list[str]):
    """Run shell lines where folder/disk is a tmpfs with this limit (mount's options)."""
    (folder / "disk").mkdir(exist_ok=True)
    (folder / "child.py").write_text(CHILD)
    child = f"{sys.executable} child.py {project / 'workflow' / 'scripts'}"
    script = "\n".join(
        [f"mount -t tmpfs -o {limit} tmpfs disk", *(line.format(child=child) for line in commands)]
    )
    return subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def namespaces(tmp_path):
    command = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "."]
    try:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare here: no small file system to fill")
    if done.returncode:
        pytest.skip("mount namespaces are not allowed here: no small file system to fill")


@pytest.mark.parametrize(
    ("limit", "free"), [("size=1m", "free there: 0 MB"), ("size=64m,nr_inodes=6", " 0 files")]
)
def test_a_full_disk_is_one_line_and_leaves_nothing_whole(
    namespaces, project, tmp_path, limit, free
):
    done = on_small_disk(
        tmp_path, project, limit,
        [
            "{child} 8; echo status $?",
            "test -e disk/a.json && echo whole",
            "mount -o remount,size=64m,nr_inodes=99 disk",
            "{child} 2 && cat disk/a.json && ls -A disk",
        ],
    )  # fmt: skip
    log = (tmp_path / "log.txt").read_text()
    assert "status 1" in done.stdout, done.stdout + done.stderr + log
    assert "whole" not in done.stdout
    assert "Traceback" not in log
    lines = [line for line in log.splitlines() if line.startswith("unet-slides: ")]
    assert len(lines) == 1
    assert "disk/.a.work-" in lines[0] and free in lines[0]
    # once there is room the same call goes through
    manifest, listing = done.stdout.split("status 1\n")[1].rsplit("}\n", 1)
    assert json.loads(manifest + "}")["facts"] == {"blocks": 2}
    assert listing.split() == ["0.bin", "1.bin", "a.json"]


def test_a_limit_on_file_size_is_one_line_and_leaves_nothing_whole(project, tmp_path):
    """Needs no mount: where namespaces are not allowed this is the disk that is too small."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "child.py").write_text(CHILD)
    command = [sys.executable, "child.py", project / "workflow" / "scripts", "2"]
    limited = [*command, str(2**17)]
    done = subprocess.run(limited, cwd=tmp_path, capture_output=True, text=True, check=False)
    log = (tmp_path / "log.txt").read_text()
    assert done.returncode == 1
    assert "Traceback" not in log
    lines = [line for line in log.splitlines() if line.startswith("unet-slides: ")]
    assert len(lines) == 1
    assert "disk/.a.work-" in lines[0] and "ulimit -f" in lines[0]
    assert not (tmp_path / "disk" / "a.json").exists()
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == [
        "0.bin", "1.bin", "a.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EIO, "the file system fails"),
        (errno.ESTALE, "has lost the folder"),
        (errno.EROFS, "can't be written"),
        (errno.EACCES, "permission is missing"),
        (errno.EDQUOT, "your quota may be less"),
    ],
)
@pytest.mark.parametrize("path", ["'results/a.bin'", "b'results/a.bin'"])  # some libraries' names
def test_what_the_machine_refuses_is_one_line_with_the_path(project, tmp_path, number, told, path):
    code = (
        "from slideunet.job import job\n"
        "with job(log_file='log.txt'):\n"
        f"    raise OSError({number}, 'as strerror says', {path})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONPATH": str(project / "workflow" / "scripts")},
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = (tmp_path / "log.txt").read_text().splitlines()
    assert line.startswith("unet-slides: results/a.bin: ") and told in line


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_an_error_that_passes_is_tried_again_three_times(monkeypatch, number):
    waits, calls = [], []
    monkeypatch.setattr(durable.time, "sleep", waits.append)

    def write(failing):
        calls.append(1)
        if len(calls) <= failing:
            raise OSError(number, "for now")
        return "written"

    assert durable.retried(lambda: write(3)) == "written"
    assert len(waits) == 3 and waits == sorted(waits) and waits[0] > 0
    calls.clear()
    with pytest.raises(OSError, match="for now"):
        durable.retried(lambda: write(4))
    assert len(calls) == 4
    calls.clear()
    monkeypatch.setattr(durable, "TRANSIENT", set())
    with pytest.raises(OSError, match="for now"):
        durable.retried(lambda: write(1))


@pytest.mark.parametrize("write", ["file", "checkpoint"])
def test_files_and_checkpoints_are_tried_again(tmp_path, monkeypatch, write):
    waits, renames = [], []
    rename = os.replace

    def failing(source, target):
        renames.append(target)
        if len(renames) <= 2:
            raise OSError(errno.ESTALE, "for now")
        rename(source, target)

    monkeypatch.setattr(durable.time, "sleep", waits.append)
    monkeypatch.setattr(os, "replace", failing)
    if write == "file":
        durable.write_file(tmp_path / "a", b"content")
        assert (tmp_path / "a").read_bytes() == b"content"
    else:
        checkpoints.save(tmp_path, 3, {"network": {"a": torch.ones(2)}}, {})
        assert checkpoints.load_latest(tmp_path)[1]["step"] == 3
    assert len(waits) == 2 and len(list(tmp_path.iterdir())) == 1
