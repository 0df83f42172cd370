"""What the files of a results folder say of its slides: figures, times, warnings, failures.

Reads tables, benchmarks and logs only; standard library.
"""

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path

# Rules that a slide goes through, in order: each leaves a benchmark and a log.
RULES = ("index", "segment", "objects", "overlay", "compare")
LOG_TAIL_BYTES = 65536
WARNINGS_SHOWN = 8
WARNING = re.compile(r"^\S+ \S+ (?:WARNING|ERROR) (.*)$", re.MULTILINE)
# Above this share of tissue and pen together, pen is worth a look.
PEN_FRACTION = 0.05
# A slide with so little of the median slide's sharpness is out of focus or of another stain.
FOCUS_OF_MEDIAN = 0.25


@dataclass
class Slide:
    """One slide of the night. status: done, failed, or skipped (its row of the table is unusable).

    values : column of archive.tsv or timing.tsv, or RULE_s (seconds of a rule) -> number or text
    """

    name: str
    status: str
    stage: str = ""
    reason: str = ""
    log: str = ""
    values: dict[str, float | str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a table that the workflow wrote; none where there is none yet."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except OSError:
        return []
    return [{key: _plain(cell or "") for key, cell in row.items() if key} for row in rows]


def read_slides(results: Path) -> list[Slide]:
    """All slides of archive.tsv and failures.tsv: failed and skipped ones first, then by name."""
    failures = {row["slide"]: row for row in read_table(results / "failures.tsv")}
    timings = {row["slide"]: row for row in read_table(results / "timing.tsv")}
    rows = read_table(results / "archive.tsv")
    slides = []
    for row in rows:
        name = row["slide"]
        cells = {**row, **timings.get(name, {})}
        values = {key: number(cells[key]) for key in cells if key not in ("slide", "status")}
        values |= {f"{rule}_s": seconds(results, rule, name) for rule in RULES}
        values = {key: value for key, value in values.items() if value not in ("", None)}
        slides.append(Slide(name, row["status"], values=values))
    known = {slide.name: slide for slide in slides}
    for name, row in failures.items():
        slide = known.get(name)
        if slide is None:
            slide = Slide(name, "skipped" if row["stage"] == "table" else "failed")
            slides.append(slide)
        slide.stage, slide.reason, slide.log = row["stage"], row["reason"], row.get("log", "")
    sharpness = sorted(
        s.values["focus"] for s in slides if isinstance(s.values.get("focus"), float)
    )
    median = sharpness[len(sharpness) // 2] if sharpness else 0.0
    for slide in slides:
        slide.warnings = [*_doubts(slide, median), *logged(results, slide.name)]
    order = {"failed": 0, "skipped": 1}
    return sorted(slides, key=lambda slide: (order.get(slide.status, 2), slide.name))


def seconds(results: Path, rule: str, name: str) -> float | None:
    """How long the last job of a rule took, from its benchmark; None where there is none."""
    rows = read_table(results / "benchmarks" / rule / f"{name}.tsv")
    value = number(rows[-1].get("s", "")) if rows else ""
    return value if isinstance(value, float) else None


def logged(results: Path, name: str) -> list[str]:
    """The warnings and errors in a slide's logs, each once; of a long log the end is read."""
    found: dict[str, None] = {}
    for rule in RULES:
        try:
            with open(results / "logs" / rule / f"{name}.log", "rb") as file:
                file.seek(0, 2)
                file.seek(max(0, file.tell() - LOG_TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except OSError:
            continue
        found |= dict.fromkeys(f"{rule}: {said[:300]}" for said in WARNING.findall(text))
    more = len(found) - WARNINGS_SHOWN
    return [*list(found)[:WARNINGS_SHOWN], *([f"{more} more in the logs"] if more > 0 else [])]


def number(cell: str) -> float | str:
    """A cell as a number, where it is one."""
    try:
        return float(cell)
    except ValueError:
        return cell


def _doubts(slide: Slide, median_focus: float) -> list[str]:
    """What in a slide's figures is worth a look before they are believed."""
    if slide.status != "done":
        return []
    values = slide.values
    told = {
        "no pixel size: it went through unscaled": "mpp_y_um" not in values,
        "no object found": values.get("objects") == 0,
        "no tissue found": values.get("tissue_fraction") == 0,
        f"{values.get('bad_tiles', 0):g} tiles do not decode": bool(values.get("bad_tiles")),
        f"{values.get('masked_px', 0):g} px masked": bool(values.get("masked_px")),
        "pen on the slide": values.get("pen_fraction", 0) > PEN_FRACTION,
        "less sharp than the others": values.get("focus", median_focus)
        < FOCUS_OF_MEDIAN * median_focus,
    }
    return [text for text, holds in told.items() if holds]


def _plain(cell: str) -> str:
    """Without the apostrophe that keeps spreadsheets from taking a cell for a formula."""
    return cell[1:] if re.match(r"'[=+\-@]", cell) else cell
