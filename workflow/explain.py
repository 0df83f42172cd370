"""Say for each job why it would run, and run nothing: make explain

python workflow/explain.py --profile profiles/local [more of Snakemake's arguments]
"""

import contextlib
import io
import sys
from pathlib import Path

from snakemake.cli import main
from snakemake.jobs import Job

sys.path.insert(0, str(Path(__file__).parent / "scripts"))

from slideunet import explain

FOUND = []


def note(job, **how):
    """Instead of showing a job, note why it would run."""
    if job.rule.name != "all":
        FOUND.append((job.rule.name, ", ".join(job.wildcards_dict.values()), explain.why(job)))


if __name__ == "__main__":
    Job.log_info = note
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            main([*sys.argv[1:], "--dry-run", "--quiet", "rules", "host", "progress", "reason"])
    except SystemExit as end:
        if end.code:  # a number, or the one line that profiles/default ends with
            sys.exit(end.code if isinstance(end.code, str) else said.getvalue())
    for line in said.getvalue().splitlines():
        if line.startswith("unet-slides: "):
            print(line)
    print("\n".join(explain.report(FOUND)) or "Nothing would run: all results are up to date.")
