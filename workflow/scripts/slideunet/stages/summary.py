"""One row for each network: its measures on the images that it was not trained on."""

import csv
import io
from pathlib import Path

from slideunet.store import load, write_file


def summary(*, evaluations: list[str], table: str) -> None:
    """Write a table with a row for each evaluation manifest and a column for each of its figures.

    Columns stand in the order in which the evaluation's facts name them first.
    """
    rows = []
    for manifest in evaluations:
        pooled = load(manifest)["facts"]["pooled"]
        rows.append({"model": Path(manifest).stem, **_flat(pooled)})
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()})
    write_file(Path(table), text.getvalue().encode())


def _flat(measures: dict) -> dict:
    """Measures by class become columns of their own: iou_nucleus."""
    flat = {}
    for name, value in measures.items():
        if isinstance(value, dict):
            flat |= {f"{name}_{key}": one for key, one in value.items()}
        else:
            flat[name] = value
    return flat
