"""An archive overnight: workers and Snakemake killed, a full disk, bad slides, hostile names.

UNET_SLIDES_SOAK says how many slides (make test-faults: 200; 12 are enough to try it).
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import soak
from small_archive import write_slide
from small_project import Project, make_project

CONTENTS = 8
SIDE = (130, 200)


def calm_results(project: Path, folder: Path) -> Project:
    """Each content once, undisturbed."""
    made = make_project(project, folder)
    for number in range(CONTENTS):
        path = made.folder / "raw" / "soak" / str(number)
        path.mkdir(parents=True)
        write_slide(path / "slide.tif", number, SIDE)
    rows = [f"s{n} raw/soak/{n}/slide.tif" for n in range(CONTENTS)]
    made.write_table("slides", "id image", *rows)
    made.configure(segment={"tile_px": 64, "shard_px": 128, "chunk_px": 64})
    made.snakemake()
    return made


def plant(calm: Project, folder: Path, slides: int) -> tuple[Project, dict[str, int], set[str]]:
    """The disturbed project: id -> content of the healthy slides, and ids of those to fail."""
    ignore = shutil.ignore_patterns("results", ".snakemake")
    shutil.copytree(calm.folder, folder, ignore=ignore, copy_function=shutil.copy2)
    healthy, bad, rows = {}, set(), []
    for number in range(slides):
        name, content = f"n{number:03d}", number % CONTENTS
        place = folder / "raw" / "night" / name
        place.mkdir(parents=True)
        file = place / "slide.tif"
        data = (folder / "raw" / "soak" / str(content) / "slide.tif").read_bytes()
        if number % 20 == 7:  # 5 % malformed
            data = [data[: len(data) // 2], data[:8] + b"\xff" * 300, b"", b"no slide\n" * 99][
                number // 20 % 4
            ]
            bad.add(name)
        elif number % 100 == 3:  # 1 % hostile, in the folder's name: the file's stands in results
            place = place.rename(place.with_name(f"$(touch CANARY);`touch CANARY`{number}"))
            file = place / "slide.tif"
            healthy[name] = content
        elif number % 100 == 53:
            file = place / "{wildcards.slide}$(touch CANARY).tif"
            bad.add(name)
        else:
            healthy[name] = content
        file.write_bytes(data)
        rows.append(f"{name}\t{file.relative_to(folder)}\n")
    (folder / "tables" / "slides.tsv").write_text("id\timage\n" + "".join(rows))
    return Project(folder), healthy, bad


def slide_files(folder: Path) -> dict[str, bytes]:
    """Of one slide, but what tells times and places."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("source.json", "segmentation.timing.json")
    }


def may_mount(folder: Path) -> bool:
    command = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "."]
    try:
        return not subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode
    except FileNotFoundError:
        return False


def test_faults_that_end_by_themselves_are_told(tmp_path, monkeypatch):
    """Else the night would be calm, and as good as promised."""
    faults = soak.Faults(tmp_path, 1, small_disk=False)
    monkeypatch.setattr(soak, "POLL_S", 0.01)
    monkeypatch.setattr(faults, "done", lambda: 1 / 0)
    faults.start()
    faults.join()
    with pytest.raises(RuntimeError, match="faults ended"):
        faults.check()
    with pytest.raises(RuntimeError, match="faults ended"):
        faults.finish()


def test_faults_go_on_when_the_worker_to_be_killed_has_ended(tmp_path, monkeypatch):
    faults = soak.Faults(tmp_path, 1, small_disk=False)
    workers = [psutil.Popen(["sleep", "60"]) for _ in range(2)]
    for worker in workers:
        worker.info = {"cwd": os.getcwd(), "cmdline": ["python", ".snakemake/scripts/x.py"]}
    workers[0].kill()
    workers[0].wait()
    listed = [workers[:1]]
    monkeypatch.setattr(soak.psutil, "process_iter", lambda _: listed[0])
    faults.kill_worker()
    assert faults.counts["workers"] == 0
    listed[0] = workers[1:]
    faults.kill_worker()
    assert faults.counts["workers"] == 1 and workers[1].wait() == -signal.SIGKILL


@pytest.mark.faults
def test_the_night_ends_by_itself_with_the_planted_failures(project, tmp_path, figure):
    slides = int(os.environ.get("UNET_SLIDES_SOAK", "200"))
    calm = calm_results(project, tmp_path / "calm")
    night, healthy, bad = plant(calm, tmp_path / "night", slides)
    mounts = may_mount(tmp_path)
    command = [sys.executable, Path(__file__).with_name("soak.py"), night.folder, str(slides)]
    if mounts:
        command = ["unshare", "--map-root-user", "--mount", *command, "--small-disk"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    log = (night.folder / "soak.log").read_text(errors="replace")
    assert done.returncode == 0, done.stdout + done.stderr + log[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    print(f"{slides} slides: {told}")
    kept = night.folder / "kept"
    with open(kept / "failures.tsv", newline="") as file:
        failed = {row["slide"]: row["reason"] for row in csv.DictReader(file, delimiter="\t")}
    assert set(failed) == bad, failed
    assert told["calls"][-1] > 0, "failed slides must be an exit status"
    assert f"{len(healthy)} slides done, {len(bad)} failed" in log
    same = sum(
        slide_files(kept / "slides" / name)
        == slide_files(calm.folder / "results" / "slides" / f"s{content}")
        for name, content in healthy.items()
    )
    assert not [path for path in tmp_path.rglob("CANARY*")]
    assert told["controllers"] == 3 and told["workers"] >= 1
    assert told["windows"] == int(mounts)
    figure(f"soak of {slides} slides: healthy ones as in a calm run", 1, len(healthy), same)
    figure(
        f"soak: {told['workers']} workers, 3 Snakemakes killed; planted failures in the table",
        1, len(bad), len(set(failed) & bad),
    )  # fmt: skip
