"""What every rule's script needs around its one call: log, threads, device, signals, one line."""

import contextlib
import errno
import gc
import logging
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from slideunet import slurm_job
from slideunet.errors import UserError
from slideunet.job_log import redirect
from slideunet.store import Superseded

log = logging.getLogger("unet-slides")

# A script imports this module first. What is imported after it stays for good, and looking through
# it for garbage again and again is a tenth of a job's start: not so often until `job` begins.
_THRESHOLD = gc.get_threshold()
gc.set_threshold(100_000, *_THRESHOLD[1:])

# What the machine refuses, and what to do about it: one line each, like a user's mistake.
_REFUSED = {
    errno.EFBIG: "a limit on the size of files is in the way: raise it (ulimit -f) and call again",
    errno.EIO: "the file system fails: see whether the disk or its server is well, and call again",
    errno.ESTALE: "the file system's server has lost the folder: see to it, and call again",
    errno.EROFS: "the file system can't be written: name another folder (config: results)",
    errno.EACCES: "permission is missing: see to the folder's owner and mode, and call again",
}

_stop: signal.Signals | None = None


def stop_requested() -> bool:
    """Whether SIGTERM or SIGUSR1 has asked this job to save its work and leave."""
    return _stop is not None


class Stopped(Exception):
    """Raised by a stage that saved its work because `stop_requested` said so."""


def stop_if_asked() -> None:
    """Raise Stopped where a signal has asked this job to leave; what is written is kept."""
    if stop_requested():
        raise Stopped("leaving between two shards: those that are written are kept")


@contextlib.contextmanager
def job(log_file: str, threads: int = 1) -> Iterator[None]:
    """Run the body with its output in the log; end a user's mistake with one line and status 1.

    Descriptors 1 and 2 are redirected, so that child processes and tracebacks land there too; where
    the log has no room, lines come out among Snakemake's own. What has been imported is no garbage:
    no collection looks at it again, nor the one at the end of the process (measured: 0.4 CPU-s
    where torch is among it).
    """
    gc.set_threshold(*_THRESHOLD)
    gc.freeze()
    try:
        redirect(log_file)
        _prepare(threads)
        yield
        if _stop == signal.SIGTERM:
            # Done in the very moment in which the job was cancelled: the Snakemake around it must
            # not see to outputs that are a successor's by now.
            slurm_job.end_quietly()
    except UserError as error:
        _leave(str(error))
    except Superseded as error:
        log.info("%s; this job leaves without writing", error)
        slurm_job.end_quietly()
        _leave("another job has taken over")
    except Stopped as error:
        log.info("%s", error)
        # SIGTERM comes from whoever cancels or moves the job: then it is not ours to requeue it.
        if _stop == signal.SIGUSR1:
            slurm_job.requeue()
        slurm_job.end_quietly()
        _leave("stopped on request; call the same command again to go on")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _leave(_full_disk(error))
        if error.errno in _REFUSED and error.filename:
            where = os.fsdecode(error.filename)
            _leave(f"{where}: {error.strerror}: {_REFUSED[error.errno]}")
        raise


def _leave(line: str) -> None:
    print(f"unet-slides: {line}", file=sys.stderr, flush=True)
    sys.exit(1)


def _prepare(threads: int) -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    _limit_threads(threads)
    random.seed(0)
    signal.signal(signal.SIGTERM, _request_stop)
    signal.signal(signal.SIGUSR1, _request_stop)
    slurm_job.watch_time_limit()


def _limit_threads(threads: int) -> None:
    """Torch's own threads: where they are many more than the job's cores they slow each other."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _request_stop(signum: int, frame: object) -> None:
    global _stop  # noqa: PLW0603 - a signal handler has no other way to speak
    _stop = signal.Signals(signum)
    log.info("signal %s: saving and leaving", _stop.name)


def _full_disk(error: OSError) -> str:
    where = os.fsdecode(error.filename or os.getcwd())
    existing = next((p for p in [Path(where), *Path(where).parents] if p.exists()), Path("."))
    free_mb = shutil.disk_usage(existing).free // 2**20
    free_files = os.statvfs(existing).f_favail
    return (
        f"{where}: no space left (free there: {free_mb} MB, {free_files} files; your quota may be "
        "less): make room and call again"
    )
