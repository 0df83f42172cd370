"""Write docs/columns.md from the code that measures objects: python docs/columns_reference.py

A test compares, so the page can't drift from what the tables hold.
"""

import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]
HEAD = """# Columns of objects.parquet

One row for each object, in the order of ids. Units and meanings also stand in the metadata of each
column (`pyarrow.parquet.read_schema`), and `objects.csv` and `objects.h5ad` (config `objects.also`)
have the same columns. Shapes follow scikit-image's `regionprops`; a column in um is NaN where the
slide has no pixel size, and the statistics of an object are NaN where one of its pixels is.

`red`, `green`, `blue` stand for the channels: a slide has four columns for each of its own, named
after it. The optical densities are there for 8-bit colour slides in bright field only.

*Written by `make reference` from workflow/scripts/slideunet/columns.py: do not edit.*

"""


def reference() -> str:
    """The whole page."""
    sys.path.insert(0, str(PROJECT / "workflow" / "scripts"))
    try:
        from slideunet.columns import dictionary_markdown
    finally:
        sys.path.pop(0)
    return HEAD + dictionary_markdown()


if __name__ == "__main__":
    (PROJECT / "docs" / "columns.md").write_text(reference())
