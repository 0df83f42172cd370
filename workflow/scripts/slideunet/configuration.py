"""The configuration as Snakemake puts it together: files read strictly, overrides by type.

Imported by the Snakefile side: no numpy, no torch.
"""

import contextlib
import copy
import os
from collections.abc import Iterable
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
            content = _load(path)
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


def fill_in(config: dict, defaults: dict) -> None:
    """Put in what `config` lacks. The default's models are no part of models that it names."""
    for key, value in defaults.items():
        if key not in config:
            config[key] = copy.deepcopy(value)
        elif key != "models" and isinstance(value, dict) and isinstance(config[key], dict):
            fill_in(config[key], value)


def check_files(paths: Iterable[str | Path]) -> None:
    """Raise UserError where a key stands twice in a file: YAML takes the last one silently.

    Snakemake has read the files before: what else is wrong with one it has told already.
    """
    for path in paths:
        if os.path.isfile(path):
            with contextlib.suppress(yaml.YAMLError, UnicodeDecodeError):
                _load(Path(path))


def read_overrides(config: dict, overrides: dict, schema: dict) -> None:
    """Give values of `--config 'train={steps: 30}'` their type, in `config`.

    Snakemake hands on what stands in braces as text. Where the schema wants something else, the
    text is read as in a file.
    """
    import jsonschema

    if not overrides:
        return
    for error in list(jsonschema.Draft202012Validator(schema).iter_errors(config)):
        path = list(error.absolute_path)
        if path and _at(overrides, path) == error.instance:
            with contextlib.suppress(yaml.YAMLError):
                _at(config, path[:-1])[path[-1]] = _read(error.instance)


def _read(value: object) -> object:
    if isinstance(value, list):
        return [_read(one) for one in value]
    return yaml.safe_load(value) if isinstance(value, str) else value


def _at(tree: object, path: list) -> object:
    for key in path:
        inside = isinstance(tree, list) and key in range(len(tree))
        if not (inside or (isinstance(tree, dict) and key in tree)):
            return None
        tree = tree[key]
    return tree


def _load(path: Path) -> object:
    """The content of a YAML file in which no mapping has a key twice."""

    class Strict(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        def construct_mapping(self, node, deep=False):
            lines: dict = {}
            for key, _ in node.value:
                line, name = key.start_mark.line + 1, str(key.value)
                if lines.setdefault(name, line) != line:
                    raise UserError(
                        f"{path}: line {line}: {name!r} stands in line {lines[name]} already: "
                        "put both together"
                    )
            return super().construct_mapping(node, deep)

    return Strict(path.read_text(encoding="utf-8")).get_single_data()
