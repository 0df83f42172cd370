"""Fault injection: what all its tests share, and the table of figures at the end."""

import pytest
import warm
from small_archive import Archive, make_archive

HEADER = ("what", "asked", "injected", "as promised")


@pytest.fixture
def figure(record_property):
    """figure(what, asked, injected, kept): a row of the table, and the assertion that it is full.

    asked : how many cases at least; injected : how many were; kept : how many of them ended as
    promised.
    """

    def note(what: str, asked: int, injected: int, kept: int) -> None:
        record_property("figure", [what, asked, injected, kept])
        assert injected >= asked, f"{what}: {injected} of {asked} cases"
        assert kept == injected, f"{what}: {injected - kept} of {injected} not as promised"

    return note


def pytest_terminal_summary(terminalreporter):
    """The table of figures, in the order of the names; also where pytest-xdist ran the tests."""
    rows = sorted(
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == "figure"
    )
    if not rows:
        return
    terminalreporter.section("figures")
    for row in [HEADER, ("---", "--:", "--:", "--:"), *rows]:
        terminalreporter.write_line("| " + " | ".join(str(cell) for cell in row) + " |")


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> bool:
    """Processes can be started (warm.py); whether they can be told to die at a step."""
    shim = warm.build_shim(tmp_path_factory.mktemp("shim"))
    warm.start_server(shim)
    return shim is not None


@pytest.fixture(scope="session")
def crash_points(server) -> None:
    """Skips where no process can be told to die at a step."""
    if not server:
        pytest.skip("no C compiler (cc): nothing can die at a chosen step here")


@pytest.fixture(scope="session")
def archive(tmp_path_factory) -> Archive:
    """Inputs and calm results of every stage."""
    return make_archive(tmp_path_factory.mktemp("archive"))
