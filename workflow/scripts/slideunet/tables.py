"""The two tables: training images and slides. Settled before the first job.

Paths may begin with an environment variable ($SCRATCH/slides/a.svs).

Imported by the Snakefile side: csv of the standard library, no slide is opened.
"""

import csv
import difflib
import itertools
import os
import re
from collections.abc import Container

from slideunet.errors import UserError

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
PATHS = ("image", "label", "ignore", "annotated", "silver", "tissue")


def read_training(path: str, schema: dict, made: Container[str] = ()) -> dict[str, dict]:
    """id -> row of `training.tsv` or `unlabelled`, in the table's order; empty cells are left out.

    `schema` is that of a row (workflow/schemas). `made` holds paths that a rule of the workflow
    makes: they need not exist yet. Raises UserError, naming file and line, for a bad table: a
    training image is never left out silently.
    """
    rows = {}
    for line, row in _rows(path, schema):
        problem = _problem(row, rows, schema, made)
        if problem:
            raise UserError(f"{path}: line {line}: {problem}")
        rows[row["id"]] = row
    if not rows:
        raise UserError(f"{path}: no image in it: add at least one row")
    return rows


def read_slides(
    path: str, schema: dict, made: Container[str] = (), look: bool = True
) -> tuple[dict[str, dict], list[dict]]:
    """id -> row of `slides.tsv`, and the rows that can't be used, for the failure table.

    A bad row is a row of the failure table, not the end of the night: {slide, stage, reason}.
    `look`: whether the files must be there. Raises UserError only for a table that is none at all.
    """
    rows, failures, seen = {}, [], set()
    for line, row in _rows(path, schema):
        problem = _problem(row, seen, schema, made, look)
        seen.add(row.get("id"))
        if problem:
            name = row.get("id", "") if ID.fullmatch(row.get("id", "")) else f"line-{line}"
            reason = f"{path}: line {line}: {problem}"
            failures.append({"slide": name, "stage": "table", "reason": reason})
        else:
            rows[row["id"]] = row
    if not rows and not failures:
        raise UserError(f'{path}: no slide in it: add a row, or set slides to "" in config')
    return rows, failures


def _rows(path: str, schema: dict) -> list[tuple[int, dict]]:
    """(line number, row without its empty cells); the table's header is checked."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file, delimiter="\t"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: give the path of a table in config") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path}: not a table of tab-separated UTF-8 text: save it as such from your program "
            f"({error})"
        ) from None
    comments = itertools.takewhile(lambda cells: cells and cells[0].lstrip().startswith("#"), lines)
    first = len(list(comments))
    if not lines[first:] or not any(cell.strip() for cell in lines[first]):
        raise UserError(f"{path}: empty: its first line must name the columns")
    header = [name.strip() for name in lines[first]]
    _check_header(path, header, schema)
    rows = []
    for number, cells in enumerate(lines[first + 1 :], start=first + 2):
        if not any(cell.strip() for cell in cells) or cells[0].lstrip().startswith("#"):
            continue
        if len(cells) > len(header):
            raise UserError(
                f"{path}: line {number}: {len(cells)} cells, but the header has {len(header)}"
            )
        filled = {
            name: cell.strip() for name, cell in zip(header, cells, strict=False) if cell.strip()
        }
        for column in PATHS:
            if column in filled:
                filled[column] = os.path.expandvars(filled[column])
        rows.append((number, filled))
    return rows


def _check_header(path: str, header: list[str], schema: dict) -> None:
    known = list(schema["properties"])
    if len(header) == 1 and (parted := re.search("[,; ]", header[0])):
        raise UserError(f"{path}: its columns are parted by {parted[0]!r}: part them by tabs")
    for name in schema["required"]:
        if name not in header:
            raise UserError(f"{path}: no column {name!r}: the first line has {', '.join(header)}")
    for name in header:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise UserError(f"{path}: unknown column {name!r}: {hint}")
    if len(set(header)) < len(header):
        raise UserError(f"{path}: a column stands twice in the first line")


def _problem(
    row: dict, earlier: Container[str], schema: dict, made: Container[str], look: bool = True
) -> str | None:
    """What is wrong with a row, or None. Cells are text: required, enum and pattern are all
    that the tables' schemas use, and cheap for ten thousand rows.
    """
    name = row.get("id", "")
    for column in schema["required"]:
        if column not in row:
            return f"no {column} given" + (f" for {name!r}" if column != "id" else "")
    for column, value in row.items():
        rule = schema["properties"][column]
        if "enum" in rule and value not in rule["enum"]:
            return f"{column} {value!r}: take one of {', '.join(rule['enum'])}"
        if "pattern" in rule and not re.search(rule["pattern"], value):
            return f"{column} {value!r}: {rule['description']}"
        if look and column in PATHS and value not in made and not os.path.exists(value):
            unset = " (the environment variable is not set)" if value.startswith("$") else ""
            return f"{column} {value!r}: no such file{unset}"
    if name in earlier:
        return f"id {name!r} stands twice: ids must differ"
    return None
