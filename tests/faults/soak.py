"""A night with everything going wrong: run by test_soak.py, in a mount namespace of its own.

    python soak.py PROJECT SLIDES [--small-disk]

Calls Snakemake with the same command until it has nothing left to do but the planted failures.
Meanwhile a random worker is killed every 20 s, Snakemake itself three times, and for a while the
disk is full. Prints one line of JSON.
"""

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

KILL_EVERY_S, FULL_S, POLL_S = 20, 15, 0.5
# Shares of all the slides' manifests at which Snakemake is killed, and at which the disk fills up.
CONTROLLER_AT, FULL_AT = (0.15, 0.4, 0.75), 0.55
MANIFESTS = ("slide.json", "segmentation.json", "objects.json", "overlay.json")
CALLS = 12
SEED = 17
COMMAND = [
    *(sys.executable, "-m", "snakemake", "--profile", "profiles/local", "--cores", "2"),
    *("--retries", "3", "--configfile", "small.yaml"),
]


class Faults(threading.Thread):
    """What goes wrong while Snakemake runs."""

    def __init__(self, results: Path, slides: int, small_disk: bool):
        super().__init__(daemon=True)
        self.results, self.slides = results, slides
        self.chance = random.Random(SEED)
        self.controller_at = list(CONTROLLER_AT)
        self.full_at = [FULL_AT] if small_disk else []
        self.counts = {"workers": 0, "controllers": 0, "windows": 0}
        self.snakemake: subprocess.Popen | None = None
        self.last_kill = time.monotonic()
        self.ended = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        """Until the end is asked for. What goes wrong here is kept for `check`."""
        try:
            while not self.ended.wait(POLL_S):
                self.step()
        except Exception as error:
            self.error = error

    def check(self) -> None:
        """Raise what ended this thread: a night without faults proves nothing."""
        if self.error is not None:
            raise RuntimeError("nothing went wrong any more: the faults ended") from self.error

    def finish(self) -> None:
        """End the faults, the one in progress too; raise what had ended them before."""
        self.ended.set()
        self.join()
        self.check()

    def step(self) -> None:
        """What is due."""
        done = self.done()
        if time.monotonic() - self.last_kill > KILL_EVERY_S:
            self.kill_worker()
        if self.controller_at and done >= self.controller_at[0]:
            self.kill_controller()
        if self.full_at and done >= self.full_at[0]:
            self.fill_disk()

    def done(self) -> float:
        """Share of what the night is to make that is there."""
        slides = self.results / "slides"
        # Not a glob: folders come and go meanwhile.
        folders = os.listdir(slides) if slides.exists() else []
        made = sum((slides / folder / name).exists() for folder in folders for name in MANIFESTS)
        return made / (len(MANIFESTS) * self.slides)

    def kill_worker(self) -> None:
        """One of the scripts that are running, wherever it has been started from."""
        self.last_kill = time.monotonic()
        workers = [p for p in psutil.process_iter(["cmdline", "cwd"]) if self.is_worker(p)]
        if workers:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since it was listed
                self.chance.choice(workers).kill()
                self.counts["workers"] += 1

    def is_worker(self, process: psutil.Process) -> bool:
        here = process.info["cwd"] == os.getcwd()
        return here and any(".snakemake/scripts/" in part for part in process.info["cmdline"] or ())

    def kill_controller(self) -> None:
        """Snakemake itself; its jobs live on beside those that the next call starts."""
        if self.snakemake is not None and self.snakemake.poll() is None:
            self.snakemake.kill()
            self.counts["controllers"] += 1
            self.controller_at.pop(0)

    def fill_disk(self) -> None:
        """Not a byte is left for a while."""
        self.full_at.pop(0)
        fill = self.results / ".fill"
        try:
            with open(fill, "wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))
        except OSError:
            self.counts["windows"] += 1
        time.sleep(FULL_S)
        fill.unlink(missing_ok=True)  # there may have been no room for the file itself


def main(slides: int, small_disk: bool) -> None:
    results = Path("results")
    results.mkdir(exist_ok=True)
    if small_disk:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", results], check=True)
    faults = Faults(results, slides, small_disk)
    faults.start()
    statuses, table = [], None
    with open("soak.log", "wb") as log:
        while len(statuses) < CALLS:
            faults.snakemake = subprocess.Popen(COMMAND, stdout=log, stderr=log)
            statuses.append(faults.snakemake.wait())
            faults.check()
            failures = results / "failures.tsv"
            now = failures.read_text() if failures.exists() else None
            # through: two calls in a row, neither of which was killed, leave the same failures
            if min(statuses[-2:]) >= 0 and len(statuses) > 1 and now is not None and now == table:
                break
            table = now
    faults.finish()
    if small_disk:  # what lies in the namespace's own file system is gone with it
        subprocess.run(["cp", "-a", f"{results}/.", "kept"], check=True)
    else:
        results.rename("kept")
    print(json.dumps({**faults.counts, "calls": statuses}))


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    main(int(sys.argv[2]), "--small-disk" in sys.argv)
