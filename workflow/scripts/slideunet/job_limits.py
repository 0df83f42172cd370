"""What a slide's job asks for: memory and time by its pixels, as its manifest has them.

Jobs save their work and go back into the queue when their time is over, and each attempt asks for
more: these are good guesses, not limits of what can be done.

Imported by the Snakefile side.
"""

import functools
import json
import math
from pathlib import Path

# Slower than any machine that was measured (docs/scale.md), pixels a second, and MB a gigapixel.
SEGMENT_PX_PER_S, OBJECTS_PX_PER_S = 1e6, 1e6
OBJECTS_MB_PER_GPX = 400
# Of compressed pixels, bytes a second.
READ_BYTES_PER_S, COPY_BYTES_PER_S = 20e6, 10e6


@functools.cache
def pixels_of(manifest: str) -> int:
    """Pixels of the slide of a manifest of rule index, 0 where it failed or is damaged.

    Raises FileNotFoundError before it is there: Snakemake asks again when the job is ready.
    """
    raw = Path(manifest).read_bytes()
    try:
        facts = json.loads(raw).get("facts", {})
        return facts.get("height", 0) * facts.get("width", 0)
    except (ValueError, AttributeError, TypeError):
        return 0  # the job says what is wrong with it


def minutes(pixels: int, px_per_s: float, at_least: int, attempt: int) -> int:
    """Run time to ask for, minutes."""
    return attempt * (at_least + math.ceil(pixels / px_per_s / 60))


def index_minutes(size_bytes: int, copy: bool) -> int:
    """Run time of rule index to ask for, minutes: the whole file is read, and copied if wanted."""
    seconds = size_bytes / READ_BYTES_PER_S + copy * size_bytes / COPY_BYTES_PER_S
    return 30 + int(seconds // 60)


def objects_mb(pixels: int, attempt: int) -> int:
    """Memory for the objects of a slide, MB: blocks, and a row for each object."""
    return attempt * (2000 + math.ceil(pixels / 1e9 * OBJECTS_MB_PER_GPX))
