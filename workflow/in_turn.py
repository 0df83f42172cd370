"""Run the stages one after the other: what comes out as it was before ends there.

    python workflow/in_turn.py --profile profiles/local [more of Snakemake's arguments]

Within one call Snakemake marks all that follows a job before it starts. Here each stage is a call
of its own, so that a stage that ran again and made the same (a slide was touched, a module was
edited without effect) makes nothing after it run. It costs one look at all jobs for each stage, and
no stage begins before the one before it is through: for the daily call plain Snakemake is better.
"""

import os
import subprocess
import sys

STAGES = (
    ("ingest", "index"),
    ("weights",),
    ("train",),
    ("evaluate", "segment"),
    ("summary", "objects"),
    ("overlay", "compare"),
)


def run(arguments: list[str], rules: tuple[str, ...], first: bool) -> int:
    """One call of Snakemake up to these rules (all, if none); its exit status."""
    more = ["--until", *rules] if rules else []
    print(f"== {' and '.join(rules) or 'what is left'}", flush=True)
    # failed slides are tried again once, not in each stage
    later = {} if first else {"UNET_SLIDES_LATER_STAGE": "1"}
    command = [sys.executable, "-m", "snakemake", *arguments, *more]
    return subprocess.run(command, env={**os.environ, **later}, check=False).returncode


def main(arguments: list[str]) -> int:
    """All stages, then what is left. After a stage with a failed job: what is left, at once."""
    for number, rules in enumerate(STAGES):
        if run(arguments, rules, first=number == 0):
            break
    return run(arguments, (), first=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
