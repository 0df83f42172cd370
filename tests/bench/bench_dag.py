"""Planning a night: CPU-seconds and memory of `snakemake -n` for more and more slides.

    python tests/bench/bench_dag.py                    # 100, 1,000 and 10,000 slides
    python tests/bench/bench_dag.py --slides 300       # a quick look

    python tests/bench/bench_dag.py --ready 1000 16000 # choosing among so many ready jobs

Slides are empty but for a byte: none is opened while a night is planned. CPU-seconds (user and
system) and peak memory are those of Snakemake's process; what a slide adds stands beside it.
--ready asks Snakemake's greedy scheduler for 2 and for 100 of made-up jobs at a time, with all of
them shown to it and with the 200 of highest priority, as this workflow does.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).parents[2]
sys.path.insert(0, str(PROJECT / "workflow" / "scripts"))
CONFIG = "slides: slides\n"


def make_project(folder: Path, slides: int) -> None:
    """The workflow and so many slides."""
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("workflow", "profiles", "envs"):
        shutil.copytree(PROJECT / name, folder / name, ignore=ignore)
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(PROJECT / name, folder)
    (folder / "slides").mkdir()
    for number in range(slides):
        (folder / "slides" / f"slide{number}.svs").write_bytes(b"\0")
    (folder / "many.yaml").write_text(CONFIG)


def snakemake(folder: Path, *arguments: str) -> tuple[float, float, str]:
    """CPU-seconds, peak memory in MB and output of one call."""
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local", "--cores", "2"]
    with open(folder / "output.txt", "wb") as output:
        process = subprocess.Popen(
            [*command, "--configfile", "many.yaml", "--quiet", "rules", *arguments],
            cwd=folder, stdout=output, stderr=output,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    text = (folder / "output.txt").read_text()
    if process.returncode:
        sys.exit(text)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text


def measure(slides: int) -> tuple[float, float, int]:
    """CPU-seconds, MB and jobs of a dry run."""
    with tempfile.TemporaryDirectory(prefix="bench-dag-") as folder:
        project = Path(folder) / "project"
        project.mkdir()
        make_project(project, slides)
        cpu_s, peak_mb, text = snakemake(project, "-n")
        jobs = [line.split()[1] for line in text.splitlines() if line.startswith("total ")]
        return cpu_s, peak_mb, int(jobs[0]) if jobs else 0


@dataclass(frozen=True)
class Job:
    """What the scheduler looks at."""

    priority: int
    name: str = "segment"
    input: tuple = ()
    scheduler_resources: dict = field(default_factory=lambda: {"_cores": 1}, hash=False)


def choose(ready: int) -> None:
    """Print jobs per CPU-second that the greedy scheduler chooses among so many."""
    from slideunet.longest_first import first_of_each
    from snakemake.scheduling.greedy import Scheduler, SchedulerSettings

    scheduler = Scheduler.__new__(Scheduler)
    scheduler.settings = SchedulerSettings()
    jobs = {Job(number) for number in range(ready)}
    for shown in (ready, 200):
        for free in (2, 100):
            started = time.process_time()
            chosen = scheduler.select_jobs(
                list(first_of_each(jobs, shown)), [], {"_cores": free}, {}
            )
            rate = len(chosen) / (time.process_time() - started)
            print(f"{ready:>8} {min(shown, ready):>8} {free:>8} {rate:>10.0f}", flush=True)


def main() -> None:
    """Print a row for each number of slides."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--ready", type=int, nargs="+")
    options = parser.parse_args()
    if options.ready:
        print(f"{'ready':>8} {'shown':>8} {'at once':>8} {'jobs/CPU-s':>10}")
        for ready in options.ready:
            choose(ready)
        return
    start_s, start_mb, _ = measure(1)
    print(f"{'slides':>8} {'jobs':>8} {'CPU-s':>8} {'MB':>8} {'ms/slide':>9} {'KB/slide':>9}")
    for slides in options.slides:
        cpu_s, peak_mb, jobs = measure(slides)
        more_s, more_mb = cpu_s - start_s, peak_mb - start_mb
        print(
            f"{slides:>8} {jobs:>8} {cpu_s:>8.1f} {peak_mb:>8.0f} {1e3 * more_s / slides:>9.2f} "
            f"{1024 * more_mb / slides:>9.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
