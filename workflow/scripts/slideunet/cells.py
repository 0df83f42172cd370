"""Cells of tables that people open in a spreadsheet: text on one line, and no formula.

Imported by the Snakefile side.
"""

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def cell(value: object) -> object:
    """A value as a cell: floats with 6 digits, text on one line that no spreadsheet would run."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return harmless(" ".join(value.split())) if isinstance(value, str) else value


def harmless(text: str) -> str:
    """Text that a spreadsheet would take for a formula, with an apostrophe before it."""
    return f"'{text}" if text.startswith(FORMULA) else text
