"""Run the stages one after the other: what comes out as it was before ends there.

    python workflow/in_turn.py --profile profiles/local [more of Snakemake's arguments]

Within one call Snakemake marks all that follows a job before it starts. Here each stage is a call
of its own, so that a stage that ran again and made the same (a module was edited without effect)
makes nothing after it run. Slides that were touched, copied or moved are not read by this process
to see whether they changed, but indexed again by jobs: the way to take over an archive whose files
all have new times. It costs one look at all jobs for each stage, and no stage begins before the one
before it is through: for the daily call plain Snakemake is better.
"""

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "scripts"))

from slideunet import command_line

STAGES = (
    ("ingest", "index"),
    ("weights",),
    ("train",),
    ("evaluate", "segment"),
    ("summary", "objects"),
    ("overlay", "compare"),
)


def run(arguments: list[str], rules: tuple[str, ...], number: int) -> int:
    """Call number `number` of Snakemake, up to these rules (all, if none); its exit status."""
    more = ["--until", *rules] if rules else []
    print(f"== {' and '.join(rules) or 'what is left'}", flush=True)
    # failed slides are tried again in the first; touched ones are compared by jobs of rule index
    stage = {"UNET_SLIDES_STAGE": str(number)}
    command = [sys.executable, "-m", "snakemake", *arguments, *more]
    return subprocess.run(command, env={**os.environ, **stage}, check=False).returncode


def main(arguments: list[str]) -> int:
    """All stages, then what is left. After a stage with a failed job: what is left, at once."""
    for number, rules in enumerate(STAGES):
        if run(arguments, rules, number):
            break
    return run(arguments, (), len(STAGES))


if __name__ == "__main__":
    command_line.end_at_a_mistake(sys.argv[1:], Path(__file__).parents[1])
    sys.exit(main(sys.argv[1:]))
