"""Large slides first, so that the night does not end with one slide alone on one GPU.

A job's priority is the size of its slide. Snakemake's greedy scheduler takes the highest priority
first, but where thousands of jobs are ready it looks at a random sample of them only
(scheduler-subsample), and a large slide may be the last to be drawn. Here the sample is drawn by
priority: of each rule the first so many, so that jobs which wait for a GPU do not hide those which
need none.

Imported by the Snakefile side.
"""

import functools
import heapq
import os
from collections import defaultdict
from collections.abc import Collection

# Training comes before all: nothing can be segmented without it.
TRAINING = 1 << 60


@functools.cache
def bytes_of(path: str) -> int:
    """Size of a slide's file, with what lies in the folder that it is or that belongs to it.

    Folders are looked into one level deep: enough for DICOM and MRXS; that of an OME-Zarr is found
    too small, it comes last. 0 where there is nothing (yet).
    """
    folder = os.path.splitext(path)[0] if path.lower().endswith(".mrxs") else path
    try:
        size = os.stat(path).st_size
        if os.path.isdir(folder):
            with os.scandir(folder) as entries:
                size += sum(entry.stat().st_size for entry in entries if entry.is_file())
    except OSError:
        return 0
    return size


def install(scheduler: object) -> None:
    """Let Snakemake's scheduler draw its sample by priority. Does nothing where it draws none."""
    size, select = scheduler.subsample, scheduler.job_selector
    if size:
        scheduler.subsample = None
        scheduler.job_selector = lambda jobs: select(first_of_each(jobs, size))


def first_of_each(jobs: Collection, size: int) -> set:
    """The `size` jobs of highest priority of each rule (or each kind of group) among `jobs`."""
    if len(jobs) <= size:
        return set(jobs)
    kinds = defaultdict(list)
    for job in jobs:
        kinds[job.name].append(job)
    return {
        job
        for alike in kinds.values()
        for job in heapq.nlargest(size, alike, key=lambda job: job.priority)
    }
