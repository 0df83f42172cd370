"""The dask graph of a slide, and the two ways to run it: threads of this process, or a cluster."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.threaded
from dask.delayed import Delayed

from slideunet.errors import UserError
from slideunet.inference import (
    Plan,
    close_engine,
    engine_of,
    join_shard,
    read_shard,
    segment_shard,
)
from slideunet.shard_store import Block, Shard

POLL_S = 1.0
CONNECT_S = 30


class Aborted(Exception):
    """Raised in the tasks that still run when another one has failed."""


def graph(plan: Plan, done: set[Shard], rows: range | None = None) -> list[Delayed]:
    """One task for each shard that is missing, and one to read each that a missing one needs.

    With `rows` only the shards of level 0 in these rows of the shard grid (one part of several).
    """
    if rows is not None:
        wanted = [s for s in plan.store.shards(0) if s.row in rows and s not in done]
        return [_forgotten(_task(segment_shard, plan, shard)) for shard in wanted]
    tasks: dict[Shard, Delayed] = {}
    parents: set[Shard] = set()
    for level in range(len(plan.store.arrays)):
        for shard in plan.store.shards(level):
            if shard in done:
                continue
            if level == 0:
                tasks[shard] = _task(segment_shard, plan, shard)
                continue
            children = shard.children(*plan.store.grid(level - 1))
            parents.update(children)
            below = [
                tasks[child] if child in tasks else _task(read_shard, plan, child)
                for child in children
            ]
            tasks[shard] = _task(join_shard, plan, shard, children, below)
    return [_forgotten(task) for shard, task in tasks.items() if shard not in parents]


def _task(function: Callable[..., Block], plan: Plan, shard: Shard, *more: object) -> Delayed:
    name = f"{function.__name__}-{shard.key}-{plan.key}"
    return dask.delayed(function, pure=False)(plan, shard, *more, dask_key_name=name)


def _forgotten(task: Delayed) -> Delayed:
    """A task whose result is not kept: a part's shards would fill the memory."""
    return dask.delayed(_forget, pure=False)(task, dask_key_name=f"done-{task.key}")


def _forget(block: Block) -> None:
    return None


def run_here(plan: Plan, targets: list[Delayed], threads: int, stop: Callable[[], None]) -> None:
    """Run the graph in `threads` threads of this process: as many shards are in flight.

    `stop` is asked between tiles and between layers; what it raises ends the run, as does the
    first error of a task: the tasks that still run leave before they write.
    """
    engine = engine_of(plan)
    aborted = threading.Event()

    def check() -> None:
        if aborted.is_set():
            raise Aborted
        stop()

    engine.stop = check
    with ThreadPoolExecutor(threads, thread_name_prefix="shard") as pool:
        try:
            # By the function itself: its name would have dask import all of dask.distributed first.
            dask.compute(*targets, scheduler=dask.threaded.get, pool=pool, optimize_graph=False)
        except BaseException:
            aborted.set()
            raise


def run_cluster(
    plan: Plan,
    targets: list[Delayed],
    address: str,
    stop: Callable[[], None],
    on_done: Callable[[int], None],
) -> int:
    """Run the same graph on a dask.distributed cluster; returns its number of worker processes.

    The workers see the same file system and have workflow/scripts on PYTHONPATH. Each process
    opens slide and networks once; its number of threads is the number of its shards in flight.
    `on_done` is told the number of shards of level 0 written. Raises UserError where no scheduler
    answers at the address.
    """
    from distributed import wait

    with _client(address) as client, client.as_current():
        futures = client.compute(targets, optimize_graph=False)
        try:
            while futures:
                stop()
                on_done(sum(1 for _ in plan.store.markers.glob("0.*.*[0-9]")))
                try:
                    wait(futures, timeout=POLL_S)
                    break
                except TimeoutError:
                    continue
            client.gather(futures)
            return len(client.nthreads())
        except BaseException:
            client.cancel(futures)
            raise
        finally:
            client.run(close_engine, plan)


def _client(address: str):
    from distributed import Client

    try:
        return Client(address, set_as_default=False, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise UserError(
            f"segment.scheduler: {address}: no dask scheduler answers there ({error}): start one, "
            'or set it to "" to compute in the job itself'
        ) from None
