"""One bad slide never stops the night: what failed, what is tried again, how the run ends.

Imported by the Snakefile side: nothing but the standard library.
"""

import csv
import io
import logging
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from slideunet import held_out, timing
from slideunet.cells import cell
from slideunet.durable import write_file
from slideunet.errors import UserError
from slideunet.manifest import read_manifest
from slideunet.parameters import from_text

log = logging.getLogger("unet-slides")

# The manifests of a slide, in the order in which they are made.
STAGES = ("slide", "segmentation", "objects", "overlay", "accuracy")

# Clocks of machines that write to one file system may differ by so much.
CLOCKS_S = 60

# So many slides are named in a line.
NAMED = 10
# The id in the path of one of a slide's manifests.
SLIDE_OF = re.compile(r".*/slides/([^/]+)/")

# Facts of a slide's objects that get a column each: the share of each class of the configuration.
FRACTION = "fraction_"
# Column of archive.tsv: (manifest, path of the fact in it).
COLUMNS = {
    "height_px": ("slide", "height"),
    "width_px": ("slide", "width"),
    "mpp_y_um": ("slide", "mpp_um", 0),
    "mpp_x_um": ("slide", "mpp_um", 1),
    "reader": ("slide", "reader"),
    "tissue_mm2": ("slide", "quality", "tissue_mm2"),
    "tissue_fraction": ("slide", "quality", "tissue_fraction"),
    "focus": ("slide", "quality", "focus"),
    "saturation": ("slide", "quality", "saturation"),
    "pen_fraction": ("slide", "quality", "pen_fraction"),
    "bad_tiles": ("slide", "bad_tiles"),
    "tile_px": ("segmentation", "tile_px"),
    "computed_px": ("segmentation", "computed_px"),
    "masked_px": ("segmentation", "masked_px"),
    "objects": ("objects", "summary", "objects"),
    "density_per_mm2": ("objects", "summary", "density_per_mm2"),
    **{
        f"area_{unit}_{quantile}": ("objects", "summary", f"area_{unit}_{quantile}")
        for unit in ("px", "um2")
        for quantile in ("q05", "q25", "q50", "q75", "q95")
    },
    "object_f1": ("accuracy", "object_f1"),
}


def failed_manifests(results: str, slides: Iterable[str]) -> list[Path]:
    """Manifests of slides that an earlier call left as failed, or that are not as written.

    Looked at are the slides in failures.tsv, and those whose manifests are newer: a call that was
    killed wrote no table.
    """
    table = Path(results) / "failures.tsv"
    try:
        known, since = {row["slide"] for row in _table(str(table))}, table.stat().st_mtime
    except (FileNotFoundError, KeyError):
        known, since = set(), 0.0
    found = []
    for slide in sorted({*slides, *known}):
        folder = Path(results) / "slides" / slide
        parts = sorted(folder.glob("parts/[0-9]*-of-*[0-9].json"))
        there = [
            path for path in [*(folder / f"{s}.json" for s in STAGES), *parts] if path.exists()
        ]
        if slide in known or any(path.stat().st_mtime > since - CLOCKS_S for path in there):
            found += [path for path in there if _read(path)["status"] == "failed"]
    return found


def set_aside(manifests: Iterable[Path]) -> None:
    """Rename manifests to `.NAME.failed.json`, so that what they stand for is made again."""
    for path in manifests:
        path.rename(path.with_name(f".{path.stem}.failed.json"))


def announce(manifests: Iterable[Path]) -> None:
    """A line that names the slides which a call that runs jobs would try again."""
    slides = list(dict.fromkeys(SLIDE_OF.search(path.as_posix())[1] for path in manifests))
    more = f" and {len(slides) - NAMED} more" if len(slides) > NAMED else ""
    print(
        "unet-slides: failed, and tried again by a call that runs jobs: "
        f"{', '.join(slides[:NAMED])}{more}",
        file=sys.stderr, flush=True,
    )  # fmt: skip


def write_tables(results: str, slides: list[str], refused: list[dict] | str) -> tuple[int, int]:
    """Write archive.tsv (a row for each slide), failures.tsv and timing.tsv; return how many are
    done, failed.

    `refused` are the rows of the slide table that could not be used, also by parameters.as_text. A
    slide whose job was killed has no manifest: it is entered with the stage that is missing.
    """
    refused = from_text(refused)
    rows, failures = [], list(refused)
    for slide in slides:
        manifests = {
            stage: _read(Path(results) / "slides" / slide / f"{stage}.json") for stage in STAGES
        }
        failure = _failure(manifests)
        if failure:
            log_file = Path(results) / "logs" / _rule(failure["stage"]) / f"{slide}.log"
            failures.append({"slide": slide, **failure, "log": str(log_file)})
        values = {name: _fact(manifests, *path) for name, path in COLUMNS.items()}
        summary = _fact(manifests, "objects", "summary") or {}
        values |= {key: share for key, share in summary.items() if key.startswith(FRACTION)}
        rows.append({"slide": slide, "status": "failed" if failure else "done", **values})
    rows.sort(key=lambda row: (row["status"] != "failed", row["slide"]))
    failures.sort(key=lambda row: row["slide"])
    folder = Path(results)
    columns = dict.fromkeys(["slide", "status", *COLUMNS, *(key for row in rows for key in row)])
    _write(folder / "archive.tsv", list(columns), rows)
    _write(folder / "failures.tsv", ["slide", "stage", "reason", "log"], failures)
    _write(folder / "timing.tsv", ["slide", *timing.COLUMNS], timing.rows(results, slides))
    failed = len(failures)
    log.info("slides: %d done, %d failed", len(rows) + len(refused) - failed, failed)
    return len(rows) + len(refused) - failed, failed


def judge(
    *, archive: str, failures: str, evaluation: str, verdict: str, flattered: list[str]
) -> None:
    """Raise UserError, with the counts, where slides failed; else write the verdict file.

    flattered : models that were tested on images that they were trained on

    The verdict says how many slides are done and, a line each, how good networks and slides are.
    """
    rows = _table(archive)
    failed = len(_table(failures))
    done = sum(row["status"] == "done" for row in rows)
    if failed:
        raise UserError(
            f"{done} slides done, {failed} failed: {failures} says why; "
            "the same command tries the failed ones again"
        )
    lines = [f"slides:   {done} done, 0 failed"]
    lines += [
        f"network {row['model']}{_views(row)}: foreground IoU {float(row['foreground_iou']):.3f}, "
        f"object F1 {float(row['object_f1']):.3f} on {_tested_on(row, flattered)}"
        for row in _table(evaluation)
    ]
    lines += [
        f"slide {row['slide']}: object F1 {float(row['object_f1']):.3f} against its reference"
        for row in rows
        if row["object_f1"]
    ]
    write_file(Path(verdict), "".join(f"{line}\n" for line in lines).encode())


def _tested_on(row: dict, flattered: list[str]) -> str:
    return held_out.TRAINED_ON if row["model"] in flattered else held_out.HELD_OUT


def _views(row: dict) -> str:
    """How an evaluation averaged, where it did."""
    return "" if row["averaging"] == "none" else f" (mean over views: {row['averaging']})"


def _table(path: str) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def close(results: str, slides: list[str], refused: list[dict]) -> None:
    """The closing step of a run that ended with an error: the tables, and one line."""
    if not slides and not refused:
        return
    Path(results).mkdir(parents=True, exist_ok=True)
    done, failed = write_tables(results, slides, refused)
    print(f"unet-slides: {done} slides done, {failed} failed or unfinished: {results}/failures.tsv")


def _rule(stage: str) -> str:
    """The rule that makes a stage's manifest."""
    return {"slide": "index", "segmentation": "segment", "accuracy": "compare"}.get(stage, stage)


def _failure(manifests: dict) -> dict | None:
    """Stage and reason of the first stage that failed or is missing; None for a whole slide."""
    for stage, content in manifests.items():
        if content is None:
            if stage == "accuracy":  # only slides with a reference label have one
                continue
            return {"stage": stage, "reason": "its job did not finish"}
        if content["status"] == "failed":
            return content["failure"]
    return None


def _fact(manifests: dict, stage: str, *path: object) -> object:
    value = (manifests[stage] or {}).get("facts", {})
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return ""
    return "" if value is None else value


def _read(path: Path) -> dict | None:
    """A manifest; None where there is none. One that is damaged reads as failed."""
    try:
        return read_manifest(path)
    except UserError as error:
        if not path.exists():
            return None
        return {"status": "failed", "failure": {"stage": path.stem, "reason": str(error)}}


def _write(path: Path, columns: list[str], rows: list[dict]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, delimiter="\t", lineterminator="\n", restval="")
    writer.writerow({name: cell(name) for name in columns})
    for row in rows:
        writer.writerow({name: cell(value) for name, value in row.items()})
    write_file(path, text.getvalue().encode())
