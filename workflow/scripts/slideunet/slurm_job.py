"""Inside a Slurm job: the time limit told in advance, the way back into the queue, a quiet end.

Everywhere else everything here does nothing: rules/cluster.smk sets UNET_SLIDES_SLURM_JOB in jobs
that Snakemake submitted (SLURM_JOB_ID alone may be an interactive session's).
"""

import logging
import os
import signal
import subprocess
import threading
import time

log = logging.getLogger("unet-slides")

# Work is saved this long before the limit, or in the last tenth of a shorter time, seconds.
MARGIN_SECONDS = 120
# A job that went back this often gets nowhere: it then fails, and is retried with more time.
REQUEUES = 100


def watch_time_limit() -> None:
    """Send this process SIGUSR1 shortly before Slurm's time limit."""
    if _job_id():
        threading.Thread(target=_watch, daemon=True).start()


def requeue() -> None:
    """Hand the job back to the queue, under its id: it goes on where it was."""
    if _job_id() and int(os.environ.get("SLURM_RESTART_COUNT", "0")) < REQUEUES:
        done = _ask("scontrol", "requeue", _job_id())
        log.info("back to the queue" if done is not None else "Slurm does not take the job back")


def end_quietly() -> None:
    """Kill all of this Slurm job's processes at once, this one included.

    The Snakemake around a failed script deletes the rule's outputs. That must not happen where they
    may be a successor's: this job has lost them, or is about to be moved to another node.
    """
    if _job_id():
        os.killpg(os.getpgrp(), signal.SIGKILL)


def seconds_of(text: str) -> float | None:
    """Seconds of Slurm's `[days-][hours:]minutes:seconds`; None for UNLIMITED and the like."""
    days, _, clock = text.strip().rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts) or (days and not days.isdigit()):
        return None
    seconds = 0
    for part in parts:
        seconds = 60 * seconds + int(part)
    return seconds + 86400 * int(days or 0)


def _watch() -> None:
    left = seconds_of(_ask("squeue", "--noheader", "--format=%L", f"--job={_job_id()}") or "")
    if left is not None:
        time.sleep(max(0, left - min(MARGIN_SECONDS, left / 10)))
        log.info("the time limit is near")
        os.kill(os.getpid(), signal.SIGUSR1)


def _job_id() -> str | None:
    return os.environ.get("UNET_SLIDES_SLURM_JOB")


def _ask(*command: str) -> str | None:
    """The output of one of Slurm's commands; None if it failed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
