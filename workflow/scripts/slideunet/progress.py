"""How far a long loop is: a bar on a terminal, a line now and then in a log."""

import logging
import sys
import time

log = logging.getLogger("unet-slides")

LINE_EVERY_S = 60.0


class Progress:
    """Shows steps done of `total`. Beginning at `done`, where a resumed job goes on."""

    def __init__(self, done: int, total: int, what: str):
        self._total, self._what = total, what
        self._started, self._done_before = time.monotonic(), done
        self._last_line = self._started
        self._bar = None
        if sys.stderr.isatty():
            try:
                from tqdm import tqdm

                self._bar = tqdm(total=total, initial=done, desc=what, unit="step")
            except ImportError:
                log.info("no progress bar: tqdm is not installed")

    def show(self, done: int, note: str = "") -> None:
        """`done` steps are done; cheap enough to call after each."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        if now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            rate = (done - self._done_before) / (now - self._started)
            left_s = (self._total - done) / rate
            log.info(
                "%s: %d of %d, %.3g a second, %.0f s left %s",
                self._what, done, self._total, rate, left_s, note,
            )  # fmt: skip

    def close(self) -> None:
        """Leave the terminal in order."""
        if self._bar is not None:
            self._bar.close()
