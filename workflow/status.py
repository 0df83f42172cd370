"""Where a run stands: networks and slides done, failed, waiting, and for how long: make status

    python workflow/status.py [--configfile mine.yaml ...] [--config KEY=VALUE ...] [--every 10]

Takes the configuration that the run was called with. Reads files only: it needs no lock and may be
called while the run goes on. With --every it goes on until Ctrl-C, that many seconds apart: on a
terminal with bars, in a file as one line each time.
"""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parent / "scripts"))

from slideunet import command_line, settings, slide_folder, standing
from slideunet.errors import UserError

PROJECT = Path(__file__).parents[1]
CLEAR = "\033[H\033[J"  # the cursor to the top, all below it removed
RULES = tuple(standing.MANIFESTS)


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--every", type=float, metavar="SECONDS", help="until Ctrl-C")
    given, _ = parser.parse_known_args()
    try:
        # What else the run was called with (a profile, cores) says nothing of where it stands.
        config = command_line.read_configuration(sys.argv[1:], PROJECT)
        schema = yaml.safe_load((PROJECT / "workflow/schemas/slides.schema.yaml").read_text())
        slides, refused = (
            slide_folder.read_slides(config["slides"], schema, look=False)
            if config["slides"]
            else ({}, [])
        )
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    steps = {
        name: settings.model_settings(config, name)["train"]["steps"]
        for name in settings.models_of(config)
    }
    terminal = sys.stdout.isatty()
    with contextlib.suppress(KeyboardInterrupt), until_nobody_reads():
        while True:
            lines = standing.report(
                Path(config["results"]), sorted(slides), refused, steps, bars=terminal
            )
            show(lines, again=given.every is not None, terminal=terminal)
            if given.every is None:
                break
            time.sleep(given.every)
    return 0


@contextlib.contextmanager
def until_nobody_reads() -> Iterator[None]:
    """End quietly where the reader of a pipe has gone, as `| head` does."""
    try:
        yield
    except BrokenPipeError:
        # Python writes what is left once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show(lines: list[str], again: bool, terminal: bool) -> None:
    """Print all lines; where it is done again and again, in place of the last ones or in short."""
    if again and terminal:
        print(CLEAR, end="")
    if again and not terminal:
        lines = ["; ".join(line for line in lines if not line.startswith(("stage", *RULES)))]
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(main())
