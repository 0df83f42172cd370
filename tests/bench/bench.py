"""Every stage beside its peers and the machine's limit, in one table.

    make bench                                    # all stages: see docs/performance.md for its time
    make bench BENCH="--only weight"              # stages whose name has one of these words
    make bench BENCH="--turns 1"                  # a quick look

Every program runs in a process of its own with one thread; those of a stage take turns, so that a
busy machine slows all alike, and medians are shown. CPU-seconds are user and system time of the
work, imports and preparations left out. "x ours": the cost of a program over that of ours; where
that is a peer's, ours is so many times as fast; where it is the limit's, it is the share of the
limit that ours reaches. Peak memory is the process's, PyTorch and all. A program that is not
installed, fails or takes too long is a row that says so. Each stage ends once its share of
--minutes is used up, after one counted turn at least.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from datetime import date
from importlib import import_module
from pathlib import Path

import turns

MODULES = (
    "compute",
    "image",
    "weight_map",
    "augment",
    "train",
    "objects",
    "slides",
    "whole_slide",
    "start",
    "pixelwise",
)
HEAD = "| stage | program | figure | unit | x ours | spread | peak MB |"


def all_stages() -> list[turns.Stage]:
    """In the order of the table."""
    return [s for name in MODULES for s in import_module(f"stages.{name}").stages()]


def rows_of(stage: turns.Stage, found: list[turns.Measured]) -> list[str]:
    """The stage's rows, as Markdown."""
    ours = next((m.cost_s for m in found if m.program.role == "ours"), None)
    rows = []
    for number, measured in enumerate(found):
        program, cost = measured.program, measured.cost_s
        name = program.name if program.role != "limit" else f"limit: {program.name}"
        cells = [stage.name if not number else "", name]
        if cost is None:
            cells += [measured.problem, "", "", "", ""]
        else:
            figure = 1 / cost if stage.is_rate else 1e3 * cost
            ratio = f"{cost / ours:.2f}" if ours else ""
            cells += [f"{figure:.3g}" if figure < 100 else f"{figure:.0f}", stage.unit, ratio]
            cells += [f"{100 * measured.spread:.0f} %", f"{measured.peak_mb:.0f}"]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def processor() -> str:
    """The name of the processor, as Linux has it."""
    with open("/proc/cpuinfo") as file:
        names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {len(names)} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD")
    parser.add_argument("--turns", type=int, default=3, help="counted turns, at most")
    parser.add_argument("--minutes", type=float, default=18, help="wall time, about")
    parser.add_argument("--peer-python", default=sys.executable, help="where the peers are")
    options = parser.parse_args()
    started = time.monotonic()
    load = os.getloadavg()[0]
    print(f"{date.today()}, {processor()}, load {load:.1f} at the start\n\n{HEAD}")
    print("|---|---|---|---|---|---|---|", flush=True)
    chosen = [s for s in all_stages() if any(word in s.name for word in options.only)]
    for number, stage in enumerate(chosen):
        begun, used = time.monotonic() - started, turns.cpu_seconds()
        share_s = max(0, 60 * options.minutes - begun) / (len(chosen) - number)
        with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as folder:
            found = turns.measure(stage, options.peer_python, Path(folder), options.turns, share_s)
        print("\n".join(rows_of(stage, found)), flush=True)
        ended, used = time.monotonic() - started, turns.cpu_seconds() - used
        line = f"{ended:.0f} s; {stage.name}: {ended - begun:.0f} s, {used:.0f} CPU-s"
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
