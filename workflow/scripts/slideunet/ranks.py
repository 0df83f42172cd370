"""Several processes that share each step of a training, one per GPU (torch's DDP).

Rank 0 is the job's own process: it alone writes, validates and listens to signals. It starts the
others, which compute their share of each batch and end with it. All are on one machine. Gradients
and losses are means over equal shares, so that a step equals that of one process with the same
batch, but for the order of sums (a test: to 1e-5, dropout off).

Imports torch only.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

from slideunet.errors import UserError

# Others wait while rank 0 validates.
PATIENCE = timedelta(hours=6)


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is."""

    rank: int = 0
    size: int = 1

    def share(self, batch: list) -> list:
        """This process's part of a batch."""
        each = len(batch) // self.size
        return batch[self.rank * each : (self.rank + 1) * each]

    def wrap(self, network: torch.nn.Module) -> Callable:
        """The network, with gradients that are the mean over all processes."""
        if self.size == 1:
            return network
        return torch.nn.parallel.DistributedDataParallel(network)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean of a tensor over all processes."""
        if self.size == 1:
            return values
        values = values.clone()
        distributed.all_reduce(values)
        return values / self.size

    def agree(self, decision: bool) -> bool:
        """What rank 0 decides, everywhere."""
        if self.size == 1:
            return decision
        word = torch.tensor([decision], dtype=torch.uint8)
        distributed.broadcast(word, src=0)
        return bool(word)


ALONE = Ranks()


@contextlib.contextmanager
def lead(size: int, module: str, arguments: dict) -> Iterator[Ranks]:
    """Rank 0: starts the others as `python -m module` with `arguments` and ends them after it.

    Raises UserError where one of them ends early; why stands in the log, which all share.
    """
    if size == 1:
        yield ALONE
        return
    _use_loopback()
    store = distributed.TCPStore(
        "127.0.0.1", 0, size, is_master=True, timeout=PATIENCE, wait_for_workers=False
    )
    others = [
        _start(module, {**arguments, "rank": rank, "size": size, "port": store.port})
        for rank in range(1, size)
    ]
    try:
        distributed.init_process_group(
            _backend(), store=store, rank=0, world_size=size, timeout=PATIENCE
        )
        yield Ranks(0, size)
        for other in others:
            other.wait()
    except RuntimeError as error:
        time.sleep(1)  # in which the one that failed ends
        if any(other.poll() not in (None, 0) for other in others):
            raise UserError("one of the training's processes ended early: the log says why") from (
                error
            )
        raise
    finally:
        for other in others:
            other.kill()
            other.wait()
        if distributed.is_initialized():
            distributed.destroy_process_group()


def follow(run: Callable[..., object]) -> None:
    """Any other rank: calls run(ranks=..., **arguments) with what `lead` gave; ends with rank 0."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(name, signal.SIG_IGN)  # rank 0 hears them, saves, and says when to end
    arguments = json.load(sys.stdin)
    rank, size, port = (arguments.pop(key) for key in ("rank", "size", "port"))
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    _use_loopback()
    store = distributed.TCPStore("127.0.0.1", port, size, is_master=False, timeout=PATIENCE)
    distributed.init_process_group(
        _backend(), store=store, rank=rank, world_size=size, timeout=PATIENCE
    )
    try:
        run(ranks=Ranks(rank, size), **arguments)
    except UserError:
        sys.exit(1)  # rank 0 says it
    distributed.destroy_process_group()


def _start(module: str, arguments: dict) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        text=True,
    )
    process.stdin.write(json.dumps(arguments))
    process.stdin.close()
    return process


def _backend() -> str:
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


def _use_loopback() -> None:
    """All processes are here: no name of this host need be known to anyone."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


def _end_with(parent: int) -> None:
    """Rank 0 may be killed in any way: nobody must go on alone."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
