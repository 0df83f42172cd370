"""The GPUs of this machine, without loading a driver or torch; one of its own for each job.

Slurm gives each job its devices. Where there is no Slurm, jobs that run side by side would all
take the first one: here each locks a device by a file and sees no other. A lock ends with its
process, however that ends.

Imported by the Snakefile side.
"""

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Callable
from glob import glob
from pathlib import Path

log = logging.getLogger("unet-slides")

VISIBLE = "CUDA_VISIBLE_DEVICES"
AGAIN_SECONDS = 1.0
# Locks of this process, held open until its end.
_held: list[int] = []


def count_gpus() -> int:
    """The number of GPUs that may be used here; 0 where there is none."""
    return len(visible_gpus())


def visible_gpus() -> list[str]:
    """Those that CUDA_VISIBLE_DEVICES names, else all NVIDIA device files, by number."""
    devices = sorted(int(path[len("/dev/nvidia") :]) for path in glob("/dev/nvidia[0-9]*"))
    named = os.environ.get(VISIBLE)
    if named is None or not devices:
        return [str(device) for device in devices]
    return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]


def take(count: int, give_up: Callable[[], bool] = lambda: False) -> list[str]:
    """Give this process `count` GPUs of its own; waits for one to become free.

    To be called before CUDA is used. Sets CUDA_VISIBLE_DEVICES and returns what it is set to;
    leaves everything as it is inside a Slurm job of this workflow, where there is no choice, and
    once `give_up()` is true.
    """
    gpus = visible_gpus()
    if _held or not 0 < count < len(gpus) or os.environ.get("UNET_SLIDES_SLURM_JOB"):
        return gpus
    folder = _folder()
    waiting = False
    while not give_up():
        found = _lock(folder, gpus, count)
        if found:
            os.environ[VISIBLE] = ",".join(found)
            log.info("GPU %s of %s", ", ".join(found), ", ".join(gpus))
            return found
        if not waiting:
            log.info("waiting for %d of the GPUs %s", count, ", ".join(gpus))
            waiting = True
        time.sleep(AGAIN_SECONDS)
    return gpus


def _folder() -> Path:
    # Within an allocation devices may be numbered anew: its locks are its own.
    allocation = os.environ.get("SLURM_JOB_ID", "")
    name = f"unet-slides-gpus-{os.getuid()}-{allocation}".rstrip("-")
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _lock(folder: Path, gpus: list[str], count: int) -> list[str]:
    """`count` free ones, locked; all or none, so that two processes never wait for each other."""
    found, locks = [], []
    for gpu in gpus:
        file = os.open(folder / gpu.replace("/", "_"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            continue
        found.append(gpu)
        locks.append(file)
        if len(found) == count:
            _held.extend(locks)
            return found
    for file in locks:
        os.close(file)
    return []
