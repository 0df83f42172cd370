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

# Snakemake's ways (by their names in its parser) to do something else than to run jobs.
ONLY_LOOK = (
    *("dryrun", "touch", "lint", "report", "unlock", "archive", "containerize"),
    *("dag", "rulegraph", "filegraph", "d3dag", "summary", "detailed_summary"),
    *("list_rules", "list_target_rules", "list_changes", "list_input_changes"),
    *("list_params_changes", "list_untracked", "list_conda_envs", "print_compilation"),
    *("cleanup_metadata", "cleanup_shadow", "conda_cleanup_envs", "conda_create_envs_only"),
    *("container_cleanup_images", "delete_all_output", "delete_temp_output"),
    *("generate_unit_tests",),
)


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


def only_looks(arguments: Sequence[str]) -> bool:
    """Whether such a call of Snakemake runs no jobs: a dry run, a report, a graph, --unlock ..."""
    from snakemake.cli import get_argument_parser

    given = vars(get_argument_parser().parse_known_args(list(arguments))[0])
    return any(given.get(name) for name in ONLY_LOOK)


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
