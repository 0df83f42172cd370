"""Parameters of rules that quote what tables and folders hold, as harmless text and back.

Imported by the Snakefile side: nothing but the standard library.
"""

import json


def as_text(value: object) -> str:
    """The value as JSON without a "<", for parameters that quote what tables and folders hold.

    Snakemake's report has the parameters of its jobs in a script of its page, and escapes nothing.
    """
    return json.dumps(value).replace("<", "\\u003c")


def from_text(value: object) -> object:
    """What `as_text` made a text of; all else as it is."""
    return json.loads(value) if isinstance(value, str) else value
