"""Progress: lines now and then in a log, a bar on a terminal."""

import io
import logging
import sys

import pytest
from slideunet import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the test sets."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_a_minute(clock, caplog, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with caplog.at_level(logging.INFO):
        shown = progress.Progress(20, 180, "training")
        for step in range(21, 161):
            clock[0] += 1
            shown.show(step, "loss 0.5")
        shown.close()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "training: 80 of 180, 1 a second, 100 s left loss 0.5",
        "training: 140 of 180, 1 a second, 40 s left loss 0.5",
    ]


def test_a_terminal_gets_a_bar(caplog, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    shown = progress.Progress(3, 10, "training")
    for step in range(4, 11):
        shown.show(step)
    shown.close()
    assert "10/10" in terminal.getvalue()
    assert not caplog.records


def test_a_terminal_without_tqdm_gets_lines(clock, caplog, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with caplog.at_level(logging.INFO):
        shown = progress.Progress(0, 10, "training")
        clock[0] = 61
        shown.show(4)
    assert caplog.records[-1].getMessage().startswith("training: 4 of 10")
