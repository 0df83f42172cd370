"""A file system that fills up: one line with path and space, nothing that looks whole, then on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
