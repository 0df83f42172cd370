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
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from slideunet.job import job
from slideunet import store

folder = Path("disk")
blocks = int(sys.argv[2])
# Where the log lies there too: what is half written stays, so that no byte is free for the log.
write = Path.write_bytes if "LOG" in os.environ else store.write_file

def build(work):
    for number in range(blocks):
        write(work.folder / f"{number}.bin", bytes([number]) * 2**18)
    return [f"{number}.bin" for number in range(blocks)], {"blocks": blocks}

if len(sys.argv) > 3:  # of a file, bytes
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)

with job(log_file=os.environ.get("LOG", "log.txt")):
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


@pytest.mark.parametrize(
    ("limit", "where", "free"),
    [
        ("size=1m", "disk/.a.work-", "free there: 0 MB"),
        ("size=64m,nr_inodes=6", "disk/.a.work-", " 0 files"),
        ("size=64m,nr_inodes=3", "disk/.a.work-", " 0 files"),
        ("size=64m,nr_inodes=2", "disk/logs/log.txt", " 0 files"),
        ("size=64m,nr_inodes=1", "disk/logs", " 0 files"),
    ],
)
def test_a_log_on_the_full_disk_does_not_swallow_the_line(
    namespaces, project, tmp_path, limit, where, free
):
    done = on_small_disk(
        tmp_path, project, limit,
        [
            "export LOG=disk/logs/log.txt",
            "{child} 8; echo status $?; cat disk/logs/log.txt",
            "test -e disk/a.json && echo whole",
            "mount -o remount,size=64m,nr_inodes=99 disk",
            "{child} 2 && echo then status $?",
        ],
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "status 1\n" in done.stdout and "then status 0\n" in done.stdout, said
    assert "whole" not in done.stdout and "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("unet-slides: ")]
    assert line.startswith(f"unet-slides: {where}") and free in line


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


TABLES = """\
import errno, os, resource, sys
from slideunet.job import job
from slideunet.slide_failures import judge, write_tables

write_tables("calm", [], [])
with open("evaluation.tsv", "w") as file:
    file.write("model\\n")

def fail(descriptor):
    raise OSError(errno.EIO, "Input/output error")

if sys.argv[2] == "EIO":
    from slideunet import durable
    os.fsync, durable.WAITS_S = fail, ()
else:  # a file may have two bytes
    resource.setrlimit(resource.RLIMIT_FSIZE, (2, 2))
with job(log_file="/dev/stderr"):
    if sys.argv[1] == "tables":
        write_tables("results", [], [])
    else:
        judge(archive="calm/archive.tsv", failures="calm/failures.tsv",
              evaluation="evaluation.tsv", verdict="results/verdict.txt", flattered=[])
"""


@pytest.mark.parametrize(("failure", "told"), [("limit", "ulimit -f"), ("EIO", "system fails")])
@pytest.mark.parametrize(("what", "name"), [("tables", "archive.tsv"), ("verdict", "verdict.txt")])
def test_tables_that_can_not_be_written_are_named(project, tmp_path, what, name, failure, told):
    """No manifest is made with them, so nothing else says where it was."""
    for folder in ("calm", "results"):
        (tmp_path / folder).mkdir()
    (tmp_path / "results" / name).write_text("of an earlier call")
    done = subprocess.run(
        [sys.executable, "-c", TABLES, what, failure], cwd=tmp_path, check=False,
        capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(project / "workflow" / "scripts")},
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"unet-slides: results/{name}: ") and told in line
    assert [path.name for path in (tmp_path / "results").iterdir()] == [name]
    assert (tmp_path / "results" / name).read_text() == "of an earlier call"


def test_an_error_with_words_of_its_own_keeps_them(tmp_path):
    """A file name would hide them: OSError shows either."""
    with (
        pytest.raises(OSError, match="cannot write mode F"),
        durable.written_aside(tmp_path / "a"),
    ):
        raise OSError("cannot write mode F as JPEG")


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
