"""Programs that take turns: each in a process of its own, one turn at a time, medians of CPU time.

A program is a function of a module below tests/bench, called once with a folder and keywords to
prepare its work. It returns the work (a call without arguments) and how much of the stage's unit
one call does. Of a busy machine the ratios within a stage hold where the seconds do not.
"""

import argparse
import importlib
import json
import os
import resource
import select
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "workflow" / "scripts"))
NOT_INSTALLED = 3
ANSWER_S = 300  # a program that needs longer for its preparation or for a turn is ended
THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "BLOSC", "NUMBA")}
Prepared = tuple[Callable[[], object], float]


@dataclass(frozen=True)
class Program:
    """One row of the table. role: ours, peer or limit; `function` as "stages.compute:matrix"."""

    role: str
    name: str
    function: str
    keywords: dict = field(default_factory=dict)
    turns: int = 0  # at most so many, the first included; 0: as the others


@dataclass(frozen=True)
class Stage:
    """Programs that do the same; the first of role `ours` is what ratios refer to.

    `unit`: of the figure; it is a rate (more is better) if it ends in "/s", else CPU-ms per piece.
    `make`: a function that writes files into the stage's folder before the turns, or "".
    """

    name: str
    unit: str
    programs: list[Program]
    make: str = ""

    @property
    def is_rate(self) -> bool:
        return self.unit.endswith("/s")


@dataclass
class Measured:
    """What came of a program.

    `cost_s`: CPU-seconds per unit, medians; None where there is a `problem`, told in words.
    """

    program: Program
    cost_s: float | None = None
    problem: str = ""
    spread: float = 0.0  # (largest - smallest) / median of the turns
    peak_mb: float = 0.0


class Worker:
    """A program's process: prepared once, then asked for turns.

    `problem`: why it can be asked no more ("not installed" among them), "" while it can.
    """

    def __init__(self, python: str, function: str, folder: Path, keywords: dict):
        command = [python, __file__, "--function", function, "--folder", str(folder)]
        self._process = subprocess.Popen(
            [*command, "--keywords", json.dumps(keywords)], env={**os.environ, **THREADS},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.problem = ""
        ready = self._answer()
        self.amount = ready["amount"] if ready else 0.0

    def _answer(self) -> dict | None:
        """None where it has ended or takes too long: then `problem` says so."""
        if not select.select([self._process.stdout], [], [], ANSWER_S)[0]:
            self._process.kill()
            self._process.wait()
            self.problem = f"no answer within {ANSWER_S} s"
            return None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        status = self._process.wait()
        self.problem = (
            "not installed" if status == NOT_INSTALLED else f"failed (exit status {status})"
        )
        return None

    def turn(self) -> dict | None:
        """CPU-seconds of one call, and the process's peak memory so far."""
        with suppress(BrokenPipeError):  # it is gone: its exit status says why
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


def measure(stage: Stage, python: str, folder: Path, turns: int, budget_s: float) -> list[Measured]:
    """Let the stage's programs take turns, the first of each for warming up; a row for each.

    One counted turn each, then as many as fit into budget_s of wall time, preparations included. A
    program that fails is a row that says so.
    """
    started = time.monotonic()
    rows = [Measured(program) for program in stage.programs]
    if stage.make:
        maker = Worker(python, stage.make, folder, {})
        if not maker.problem:
            maker.turn()
        maker.close()
        if maker.problem:
            return [replace(row, problem=f"its files: {maker.problem}") for row in rows]
    workers = [Worker(python, p.function, folder, p.keywords) for p in stage.programs]
    seconds: list[list[float]] = [[] for _ in workers]
    for turn in range(turns + 1):
        if turn > 1 and time.monotonic() - started > budget_s:
            break
        for row, worker, taken in zip(rows, workers, seconds, strict=True):
            if worker.problem or 0 < row.program.turns <= turn:
                continue
            found = worker.turn()
            if found:
                row.peak_mb = found["peak_mb"]
                taken.append(found["cpu_s"])
    for row, worker, taken in zip(rows, workers, seconds, strict=True):
        worker.close()
        row.problem = worker.problem
        if not row.problem:
            counted = taken[1:] or taken
            row.cost_s = median(counted) / worker.amount
            row.spread = (max(counted) - min(counted)) / median(counted)
    return rows


def cpu_seconds() -> float:
    """User and system time of this process, its threads and its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def peak_mb() -> float:
    """Peak resident memory of this process, or of its largest child that has ended."""
    peak = max(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, 0)
    with open("/proc/self/status") as status:
        own = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return max(peak, own) / 1024


def serve(function: str, folder: Path, keywords: dict) -> None:
    """A worker's side. What programs print goes to standard error: answers alone to output."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    module, name = function.split(":")
    try:
        work, amount = getattr(importlib.import_module(module), name)(folder, **keywords)
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        sys.exit(NOT_INSTALLED)
    answers.write(json.dumps({"amount": amount}) + "\n")
    for _ in sys.stdin:
        started = cpu_seconds()
        work()
        taken = cpu_seconds() - started
        answers.write(json.dumps({"cpu_s": taken, "peak_mb": peak_mb()}) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--function", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--keywords", type=json.loads, required=True)
    options = parser.parse_args()
    serve(options.function, options.folder, options.keywords)
