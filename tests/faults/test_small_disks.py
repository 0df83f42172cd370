"""Every stage on a disk without room: one line, nothing that looks whole, then on to the end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from on_small_disk import UNGUARDED
from small_archive import STAGES

SHARES = [0, 0.3, 0.6, 0.95]


def in_namespace(folder: Path, command: list) -> subprocess.CompletedProcess:
    """Run a command that may mount, or skip where that is not allowed."""
    unshare = ["unshare", "--map-root-user", "--mount"]
    try:
        probe = subprocess.run(
            [*unshare, "mount", "-t", "tmpfs", "tmpfs", "."],
            cwd=folder, capture_output=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("no unshare here: no small file system to fill")
    if probe.returncode:
        pytest.skip("mount namespaces are not allowed here: no small file system to fill")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [*unshare, *command], cwd=folder, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def cases_of(archive, folder: Path, stages, shares: list[float]) -> list[dict]:
    """What happened to the stages on disks of these shares of what they need."""
    script = Path(__file__).with_name("on_small_disk.py")
    done = in_namespace(
        folder, [sys.executable, script, archive.folder, folder, json.dumps(shares), *stages]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("stages", "shares"),
    [
        (["weights"], [0.6]),
        pytest.param(STAGES, SHARES, marks=pytest.mark.faults),
    ],
    ids=["one", "all"],
)
def test_a_stage_without_room_says_so_and_goes_on(archive, tmp_path, figure, stages, shares):
    cases = cases_of(archive, tmp_path, stages, shares)
    bad = [case for case in cases if not as_promised(case)]
    for case in bad:
        print(case)
    figure(
        f"a disk without room for bytes or files, {len(stages)} stages",
        70 if len(stages) > 1 else 3, len(cases), len(cases) - len(bad),
    )  # fmt: skip


def as_promised(case: dict) -> bool:
    """One line with the path, before or while writing; no manifest; the calm bytes after it."""
    return (
        case["status"] == 1
        and len(case["lines"]) == 1
        and "/disk" in case["lines"][0]
        and "no space left" in case["lines"][0]
        and not case["traceback"]
        and not case["manifest"]
        and case["again"] == 0
        and case["same"]
    )


def test_without_its_guard_a_full_disk_is_no_line(archive, tmp_path, monkeypatch):
    """The mutation check."""
    monkeypatch.setenv(UNGUARDED, "1")
    cases = cases_of(archive, tmp_path, ["weights"], [0.6])
    assert len(cases) == 3 and not any(map(as_promised, cases))
