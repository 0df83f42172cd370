"""What a call of Snakemake names: files of the configuration and overrides, looked at before it.

Snakemake reads both before any Snakefile, and tells mistakes there with a traceback or without the
file's name. profiles/default, which it reads earlier still, calls `end_at_a_mistake`.

Imported by the Snakefile side: no numpy, no torch.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from slideunet import configuration
from slideunet.errors import UserError

# What Snakemake takes for an entry of --config.
ENTRY = re.compile(r"[A-Za-z_][\w-]*\w=")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """`configfile` and `config`, lists of str; all other arguments are left alone."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", default=[])
    parser.add_argument("--config", "-C", nargs="*", default=[])
    return parser.parse_known_args(list(arguments))[0]


def read_configuration(arguments: Sequence[str], project: Path) -> dict:
    """The configuration of a call with these arguments. Raises UserError, one line."""
    check(arguments)
    given = parse(arguments)
    return configuration.read_configuration(project, given.configfile, given.config)


def check(arguments: Sequence[str], project: Path | None = None) -> None:
    """Raise UserError, one line, for what is no file of a configuration and no override.

    project : folder whose config.yaml is looked at first
    """
    given = parse(arguments)
    for path in [*([project / "config.yaml"] if project else []), *map(Path, given.configfile)]:
        configuration.read_file(path)
    for entry in given.config:
        if not ENTRY.match(entry):
            raise UserError(f"--config {entry}: write {_instead(entry)}")


def end_at_a_mistake(arguments: Sequence[str], project: Path) -> None:
    """Print the line and end the process, status 1, where `check` finds a mistake."""
    try:
        check(arguments, project)
    except UserError as error:
        sys.exit(str(error))


def _instead(entry: str) -> str:
    found = re.match(r"(\w+)\.(\w+)=(.*)$", entry)
    if found:
        return f"'{found[1]}={{{found[2]}: {found[3]}}}', in quotes"
    return "KEY=VALUE, such as results=try"
