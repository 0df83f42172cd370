"""What made a result: the commit, the packages, the machine."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "snakemake", "torch", "numpy", "scipy", "numba", "zarr", "dask", "tifffile", "imagecodecs",
    "openslide-python", "openslide-bin", "pydicom", "scikit-image", "pyarrow", "shapely",
    "safetensors",
)  # fmt: skip


def commit(folder: Path) -> str:
    """The commit that is checked out, "with changes" where files differ from it."""
    head = _said("git", "-C", str(folder), "rev-parse", "HEAD")
    if not head:
        return "unknown: no git checkout"
    changed = _said("git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no")
    return f"{head} with changes" if changed else head


def versions() -> dict[str, str]:
    """Python's version and those of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def hardware() -> dict[str, str]:
    """The machine that this runs on: processor, cores, memory, GPUs."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpus = _said(
        "nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"
    )
    return {
        "machine": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}",
        "memory": f"{memory:.0f} GiB",
        "GPUs": "; ".join(gpus.splitlines()) or "none",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _said(*command: str) -> str:
    """What a program prints; nothing where it isn't there, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
