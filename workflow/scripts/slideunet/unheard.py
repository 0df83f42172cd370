"""Child processes that don't hear what tells a job to leave: the job hears it, and ends them."""

import contextlib
import signal
from collections.abc import Iterator

# What Slurm, a shell or a user sends to all of a job's processes at once.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """A process started within has these signals blocked for good.

    One that it heard would end it, and look like a slide that breaks its decoder. Were they ignored
    by the process itself, those that come while its Python starts would be heard.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
