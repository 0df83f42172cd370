"""Where a run stands, from the files of its results folder alone: no lock, nothing is changed.

Standard library only, tqdm for bars. It may run beside the run it looks at.
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

# Manifest of each rule that a slide goes through, in order.
MANIFESTS = {
    "index": "slide",
    "segment": "segmentation",
    "objects": "objects",
    "overlay": "overlay",
}
# The rate is that of so many slides that were finished last: a night's pauses do not count.
LAST = 50


@dataclass
class Stage:
    """Slides of one stage. failed: in this stage; passed_on: failed in an earlier one.

    times : when each was done, seconds since 1970
    """

    done: int = 0
    failed: int = 0
    passed_on: int = 0
    waiting: int = 0
    times: list[float] = field(default_factory=list)


def stages(results: Path, slides: list[str]) -> dict[str, Stage]:
    """How many of the slides are through each rule."""
    found = {}
    for rule, name in MANIFESTS.items():
        stage = found[rule] = Stage()
        for slide in slides:
            path = results / "slides" / slide / f"{name}.json"
            content = read(path)
            if not content:
                stage.waiting += 1
            elif content["status"] == "done":
                stage.done += 1
                stage.times.append(path.stat().st_mtime)
            elif content["failure"]["stage"] == rule:
                stage.failed += 1
            else:
                stage.passed_on += 1
    return found


def slides_an_hour(times: list[float]) -> float | None:
    """The rate at which the last slides were finished; None for fewer than two."""
    last = sorted(times)[-LAST:]
    if len(last) < 2 or last[-1] <= last[0]:
        return None
    return (len(last) - 1) / (last[-1] - last[0]) * 3600


def training_step(folder: Path) -> int | None:
    """The step of a training's last checkpoint; None where it has not begun."""
    saved = sorted(folder.glob(".train.work-*/checkpoint-*.safetensors"), key=lambda p: p.name)
    return int(saved[-1].stem.removeprefix("checkpoint-")) if saved else None


def report(
    results: Path,
    slides: list[str],
    refused: list[dict],
    steps: dict[str, int],
    now: float | None = None,
    bars: bool = False,
) -> list[str]:
    """Where the run stands, line by line.

    slides, refused : usable and unusable rows of the slide table
    steps : model -> steps of its training
    now : seconds since 1970
    bars : whether each line has one, for a terminal
    """
    now = time.time() if now is None else now
    lines = [
        _network(results / "models" / name, name, total, bars) for name, total in steps.items()
    ]
    if not slides:
        return [*lines, "no slides"]
    found = stages(results, slides)
    lines.append(f"{'stage':<10}{'done':>8}{'failed':>8}{'waiting':>9}{'slides/h':>10}")
    for rule, stage in found.items():
        rate = slides_an_hour(stage.times)
        shown = f"{rate:,.0f}" if rate and rate >= 100 else f"{rate:.3g}" if rate else ""
        line = f"{rule:<10}{stage.done:>8}{stage.failed:>8}{stage.waiting:>9}{shown:>10}"
        lines.append(f"{line}  {bar(len(slides) - stage.waiting, len(slides))}" if bars else line)
    last = found["overlay"]
    failed = sum(stage.failed for stage in found.values())
    # Those that failed early wait for stages that will only pass their failure on.
    left = max(0, len(slides) - last.done - failed)
    lines.append(
        f"slides: {last.done} done, {failed} failed, {left} to do, {len(refused)} skipped"
        + (f"; tables: {results}/archive.tsv" if (results / "archive.tsv").exists() else "")
    )
    return [*lines, *_when(last.times, left, now)]


def bar(done: int, total: int) -> str:
    """As many of 30 cells as are done, and per cent."""
    from tqdm import tqdm

    return tqdm.format_meter(done, total, 0, bar_format="{bar:30} {percentage:3.0f} %")


def _when(times: list[float], left: int, now: float) -> list[str]:
    rate = slides_an_hour(times)
    if not times:
        return ["no slide is through yet"]
    quiet = f"last one finished {_ago(now - max(times))} ago"
    if not left:
        return [quiet]
    if rate is None:
        return [f"{quiet}; too few to say how long the others take"]
    hours = left / rate
    end = time.strftime("%a %H:%M", time.localtime(now + hours * 3600))
    return [
        f"{quiet}; at the rate of the last {min(LAST, len(times))} the others take "
        f"{_ago(hours * 3600)}, until {end} (large slides come first: rather sooner)"
    ]


def _network(folder: Path, name: str, total: int, bars: bool) -> str:
    content = read(folder / "train.json")
    if content:
        return f"network {name}: trained"
    step = training_step(folder)
    if step is None:
        return f"network {name}: training has not begun, or has no checkpoint yet"
    line = f"network {name}: {step} of {total} steps at its last checkpoint"
    return f"{line}  {bar(step, total)}" if bars else line


def _ago(seconds: float) -> str:
    seconds = max(0, round(seconds))
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    return f"{seconds / 3600:.1f} h"


def read(path: Path) -> dict:
    """A manifest's content; an empty one where there is none (or it is being written)."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
