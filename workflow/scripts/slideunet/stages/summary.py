"""The evaluations as two tables: a row for each network, and a row for each group of networks."""

import csv
import io
import statistics
from pathlib import Path

from slideunet.cells import cell
from slideunet.durable import write_file
from slideunet.store import load

KEYS = ("model", "group", "averaging")


def summary(*, evaluations: list[str], table: str, groups_table: str, groups: dict) -> None:
    """Write both tables.

    evaluations : manifests of stage evaluate
    groups : model name -> group, for models that are repetitions of one thing (folds, seeds)
    table : a row for each model and way of averaging, a column for each figure
    groups_table : a row for each group and way of averaging: `models`, and for each figure its mean
        and, as FIGURE_sd, its standard deviation over the models (empty for a single one)

    Columns stand in the order in which the evaluations name them first.
    """
    rows = []
    for manifest in evaluations:
        name = Path(manifest).stem
        for averaging, measures in load(manifest)["facts"]["averaging"].items():
            keys = {"model": name, "group": groups[name], "averaging": averaging}
            rows.append({**keys, **_flat(measures["pooled"])})
    _write(table, rows)
    _write(groups_table, _over_groups(rows))


def _over_groups(rows: list[dict]) -> list[dict]:
    together: dict[tuple, list[dict]] = {}
    for row in rows:
        together.setdefault((row["group"], row["averaging"]), []).append(row)
    result = []
    for (group, averaging), members in together.items():
        line: dict = {"group": group, "averaging": averaging, "models": len(members)}
        figures = dict.fromkeys(key for row in members for key in row if key not in KEYS)
        for figure in figures:
            values = [row[figure] for row in members if figure in row]
            line[figure] = float(statistics.fmean(values))
            line[f"{figure}_sd"] = statistics.stdev(values) if len(values) > 1 else ""
        result.append(line)
    return result


def _write(table: str, rows: list[dict]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, delimiter="\t", lineterminator="\n")
    writer.writerow({name: cell(name) for name in columns})
    for row in rows:
        writer.writerow({name: cell(value) for name, value in row.items()})
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
