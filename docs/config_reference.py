"""Write docs/config.md from config.yaml (defaults) and its schema: python docs/config_reference.py

A test compares, so the page can't drift from what the workflow takes.
"""

import json
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[1]
HEAD = """# Configuration

`config.yaml` holds every key with its default. Give your own values in a file of your own,
`snakemake --profile profiles/local --configfile mine.yaml`: keys that it leaves out keep their
defaults. A misspelt key or a value of the wrong kind stops the run before it begins, with one line.

*Written by `make reference` from config.yaml and workflow/schemas: do not edit.*

| key | type | default | what it is |
|---|---|---|---|
"""
TABLES = """
## Tables

Tab-separated text, UTF-8, the first line names the columns; empty cells count as not given, lines
that begin with `#` are passed over. Paths may begin with an environment variable
(`$SCRATCH/slides/a.svs`).
"""
TABLE_HEADS = {
    "training": "The table of annotated images (`training`), a row for each image or region:",
    "unlabelled": "The table of images without truth (`unlabelled`):",
    "slides": "The table of slides (`slides`):",
}
ABLATIONS = {f"network.{name}": False for name in ("padded", "narrow_expansion", "sliding_window")}


def kind_of(rule: dict) -> str:
    """The type of a value in words, with its limits."""
    if "enum" in rule:
        return " or ".join(f"`{value}`" for value in rule["enum"])
    if "anyOf" in rule:
        return " or ".join(kind_of(one) for one in rule["anyOf"])
    if "const" in rule:
        return f"`{rule['const']}`"
    limits = [
        text.format(rule[key])
        for key, text in (
            ("minimum", "≥ {}"),
            ("exclusiveMinimum", "> {}"),
            ("maximum", "≤ {}"),
            ("exclusiveMaximum", "< {}"),
        )
        if key in rule
    ]
    return " ".join([{"array": "list"}.get(rule["type"], rule["type"]), *limits])


def rows(rule: dict, values: object, schema: dict, path: str = "") -> list[str]:
    """A table row for each key below `rule`."""
    if "$ref" in rule:
        rule = schema["$defs"][rule["$ref"].rpartition("/")[2]]
    if "properties" in rule:
        found = []
        for key, inner in rule["properties"].items():
            name = f"{path}.{key}" if path else key
            value = values.get(key, ABLATIONS.get(name)) if isinstance(values, dict) else None
            found += rows(inner, value, schema, name)
        return found
    if path == "models":
        return [
            "| models.NAME.train_on | list | `[train]` (main) | splits of the table to train on |",
            "| models.NAME.test_on | list | `[test]` (main) | splits to validate and evaluate on |",
            "| models.NAME.group | text | each its own | models of one group (folds, seeds) are "
            "averaged in `evaluation/groups.tsv` |",
            "| models.NAME.network, .intensity, .augment, .train | section | | "
            "overrides for this model |",
        ]
    about = rule.get("description", "")
    return [f"| {path} | {kind_of(rule)} | `{json.dumps(values)}` | {about} |"]


def table_rows(name: str) -> str:
    """What the columns of a table mean."""
    schema = yaml.safe_load((PROJECT / f"workflow/schemas/{name}.schema.yaml").read_text())
    lines = ["", TABLE_HEADS[name], "", "| column | cell |", "|---|---|"]
    for column, rule in schema["properties"].items():
        required = " (required)" if column in schema["required"] else ""
        kinds = f"{kind_of(rule)}: " if "enum" in rule else ""
        lines.append(f"| {column}{required} | {kinds}{rule['description']} |")
    return "".join(f"{line}\n" for line in lines)


def reference() -> str:
    """The whole page."""
    schema = yaml.safe_load((PROJECT / "workflow/schemas/config.schema.yaml").read_text())
    config = yaml.safe_load((PROJECT / "config.yaml").read_text())
    keys = "".join(f"{row}\n" for row in rows(schema, config, schema))
    return HEAD + keys + TABLES + "".join(table_rows(name) for name in TABLE_HEADS)


if __name__ == "__main__":
    (PROJECT / "docs" / "config.md").write_text(reference())
