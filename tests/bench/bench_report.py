"""The morning report of a large night: time to write it, its size, time to open it in a browser.

    python tests/bench/bench_report.py                  # 1,000 slides
    python tests/bench/bench_report.py --slides 100 --screenshot report.png

The slides are made up, each with two pictures of noise (1024 x 768 px, the hardest to compress),
three warnings in its logs and five benchmarks; one in fifty failed. The page is written by the
function that rule morning calls. Opening is from the command to the browser's load event, in
headless Chromium; "idle" is until its script answers.
"""

import argparse
import base64
import os
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).parents[2]
sys.path[:0] = [str(PROJECT / "workflow" / "scripts"), str(PROJECT / "tests")]

from browser import Browser, program  # noqa: E402
from made_night import archive_row, benchmark, log_file, made_night, model  # noqa: E402
from slideunet import night  # noqa: E402
from slideunet.stages.morning import morning  # noqa: E402


def make(folder: Path, slides: int, picture_px: int = 1024) -> list[str]:
    """The results folder, pictures so wide; a network's manifest."""
    names = [f"slide{number:05d}" for number in range(slides)]
    failed = set(names[::50])
    rows = [
        archive_row(name, number, "failed" if name in failed else "done")
        for number, name in enumerate(names, 1)
    ]
    failures = [
        {"slide": name, "stage": "segmentation", "reason": "tile 3 of level 0 does not decode",
         "log": f"results/logs/segment/{name}.log"}
        for name in sorted(failed)
    ]  # fmt: skip
    made_night(folder, rows, failures, picture_px=picture_px)
    for name in names:
        for seconds, rule in enumerate(night.RULES, 30):
            benchmark(folder, rule, name, seconds)
        lines = [f"2026-11-25 18:00:00,123 WARNING level {n} has odd tiles" for n in range(3)]
        log_file(folder, "segment", name, *lines)
    return [model(folder, "main", ["background", "nucleus"])]


def main() -> None:
    """Make, write, open; a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=1000)
    parser.add_argument("--screenshot", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "results"
        models = make(folder, given.slides)
        page = folder / "morning.html"
        begin = time.perf_counter()
        cpu = sum(os.times()[:2])
        morning(results=str(folder), models=models, page=str(page), config={"results": "results"})
        wall, cpu = time.perf_counter() - begin, sum(os.times()[:2]) - cpu
        print(f"{given.slides} slides: written in {wall:.1f} s ({cpu:.1f} CPU-seconds)")
        print(f"size: {page.stat().st_size / 1e6:.1f} MB")
        if program() is None:
            print("no Chromium here: not opened")
            return
        with Browser() as browser:
            for turn in range(3):
                loaded = browser.open(page)
                begin = time.perf_counter()
                rows = browser.value("document.querySelectorAll('#table tbody tr').length")
                idle = loaded + time.perf_counter() - begin
                print(f"opened ({turn + 1}): load {loaded:.2f} s, idle {idle:.2f} s, {rows} rows")
            if given.screenshot:
                picture = browser.tell("Page.captureScreenshot")["data"]
                given.screenshot.write_bytes(base64.b64decode(picture))


if __name__ == "__main__":
    main()
