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
from collections import defaultdict
from collections.abc import Collection, Mapping

from slideunet.slide_stat import stat_of

# Training comes before all: nothing can be segmented without it.
TRAINING = 1 << 60


@functools.cache
def bytes_of(path: str) -> int:
    """Size of a slide; that of an OME-Zarr is found too small, it comes last. 0 where there is
    nothing (yet).
    """
    try:
        return stat_of(path)["size"]
    except OSError:
        return 0


def install(scheduler: object) -> None:
    """Let Snakemake's scheduler draw its sample by priority. Does nothing where it draws none."""
    size, select = scheduler.subsample, scheduler.job_selector
    if size:
        scheduler.subsample = None

        def select_few(jobs: Collection) -> object:
            shown = worth_showing(scheduler.resources, size)
            return select(first_of_each(jobs, shown, shown // 2 if shown < size else 0))

        scheduler.job_selector = select_few


def worth_showing(free: Mapping[str, int], most: int) -> int:
    """How many jobs of each rule the scheduler is shown, at most `most`.

    Each time it asks the file system for all inputs of all jobs that it is shown, and works out
    their memory and time: with 200 of each rule that took longer than to start a job. Some more
    than there is room for, since not all may fit.
    """
    slots = min(free.get("_cores", most), free.get("_nodes", most))
    return min(most, 2 * slots + 8)


def first_of_each(jobs: Collection, size: int, last: int = 0) -> set:
    """The `size` jobs of highest priority of each rule (or each kind of group) among `jobs`, and
    the `last` ones: where memory is short a small slide may fit beside a large one.
    """
    if len(jobs) <= size:
        return set(jobs)
    kinds = defaultdict(list)
    for job in jobs:
        kinds[job.name].append(job)
    return {
        job
        for alike in kinds.values()
        for job in (
            *heapq.nlargest(size, alike, key=lambda job: job.priority),
            *heapq.nsmallest(last, alike, key=lambda job: job.priority),
        )
    }
