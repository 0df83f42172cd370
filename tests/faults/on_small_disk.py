"""Stages on file systems that are too small: run in a mount namespace of its own.

    unshare --map-root-user --mount python on_small_disk.py ARCHIVE FOLDER SHARES STAGE...

For each stage and each share of what it needs, of bytes and of files: a tmpfs that has only that
much, then one that has enough. The job's log lies there too, as it does by default (results/logs).
One line of JSON for each case.
"""

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

import warm
from small_archive import Archive, content, folder_of

# Set in the environment: the stages run without what makes one line of a full disk.
UNGUARDED = "UNET_SLIDES_UNGUARDED"
ROOM = "size=256m,nr_inodes=9999"


def under_job(function, keywords: dict, log: str) -> None:
    """The stage as its script runs it: a full disk becomes one line."""
    from slideunet.job import job

    with job(log_file=log):
        function(**keywords)


def unguarded(function, keywords: dict, log: str) -> None:
    """The stage without that: the mutation check."""
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    try:
        function(**keywords)
    except Exception:
        Path(log).write_text(traceback.format_exc())
        raise


class SmallDisk:
    """A tmpfs at `folder`/disk."""

    def __init__(self, folder: Path, options: str):
        self.path = folder / "disk"
        self.path.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.path], check=True)

    def enlarge(self) -> None:
        subprocess.run(["mount", "-o", f"remount,{ROOM}", self.path], check=True)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *error) -> None:
        subprocess.run(["umount", self.path], check=True)


def needs(archive: Archive, stage: str, folder: Path) -> tuple[int, int]:
    """Bytes and files that the stage's results take."""
    disk = SmallDisk(folder, ROOM)
    with disk as path:
        out = folder_of(stage, path)
        before = os.statvfs(path)
        function, keywords = archive.call(stage, out)
        warm.finish(function, log=folder / "calm.log", **keywords)
        after = os.statvfs(path)
    blocks = before.f_bfree - after.f_bfree
    return blocks * after.f_frsize, before.f_ffree - after.f_ffree


def one(archive: Archive, stage: str, folder: Path, options: str) -> dict:
    """One case: what happened on the small disk, and once there was room."""
    console = folder / "console.log"
    console.unlink(missing_ok=True)
    disk = SmallDisk(folder, options)
    with disk as path:
        out = folder_of(stage, path)
        function, keywords = archive.call(stage, out)
        log = path / "logs" / "job.log"
        guard = unguarded if UNGUARDED in os.environ else under_job
        status = warm.call(guard, function, keywords, str(log), log=console)
        text = console.read_text() + (log.read_text() if log.exists() else "")
        lines = [line for line in text.splitlines() if line.startswith("unet-slides: ")]
        left = Path(keywords["manifest"]).exists()
        disk.enlarge()
        again = warm.call(under_job, function, keywords, str(log), log=console)
        same = content(out) == archive.calm(stage)
    return {
        "stage": stage,
        "limit": options,
        "status": status,
        "lines": lines,
        "traceback": "Traceback" in text,
        "manifest": left,
        "again": again,
        "same": same,
    }


def main(archive: Archive, folder: Path, shares: list[float], stages: list[str]) -> None:
    """All cases, a line each."""
    warm.start_server(None)
    for stage in stages:
        size, files = needs(archive, stage, folder)
        page = os.sysconf("SC_PAGE_SIZE")
        limits = {f"size={max(page, int(share * size) // page * page)}" for share in shares}
        # the disk's own folder, the stage's, the log's and the log; 3: no room for the log itself
        limits |= {f"size=256m,nr_inodes={5 + int(share * files)}" for share in shares}
        limits |= {"size=256m,nr_inodes=3"}
        for options in sorted(limits):
            print(json.dumps(one(archive, stage, folder, options)), flush=True)


if __name__ == "__main__":
    archive, folder, shares, *stages = sys.argv[1:]
    main(Archive(Path(archive)), Path(folder), json.loads(shares), stages)
