"""The configuration as Snakemake puts it together, for programs that are no rule's script."""

from pathlib import Path

import yaml

from slideunet.errors import UserError
from slideunet.settings import check_config


def read_configuration(project: Path, files: list[str]) -> dict:
    """config.yaml of the project with the given files merged over it in turn, checked.

    Raises UserError, one line, for a file that is missing or no YAML mapping, and for what the
    schema does not allow.
    """
    config: dict = {}
    for path in [project / "config.yaml", *map(Path, files)]:
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{path}: {reason}: give the path of a configuration") from None
        except yaml.YAMLError as error:
            raise UserError(f"{path}: not YAML: {error}") from None
        if content is not None and not isinstance(content, dict):
            raise UserError(f"{path}: no configuration: a mapping of keys to values is needed")
        merge(config, content or {})
    schema = (project / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8")
    check_config(config, yaml.safe_load(schema))
    return config


def merge(config: dict, over: dict) -> None:
    """Put `over` into `config`, section by section, as Snakemake does with --configfile."""
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            merge(config[key], value)
        else:
            config[key] = value
