"""The configuration as Snakemake puts it together: files read strictly, overrides by type.

Imported by the Snakefile side: no numpy, no torch.
"""

import contextlib
import copy
import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from slideunet.errors import UserError
from slideunet.settings import check_config


def read_configuration(project: Path, files: Sequence[str], entries: Sequence[str] = ()) -> dict:
    """config.yaml of the project with the given files merged over it in turn, checked.

    entries : KEY=VALUE, as --config has them; merged over the files

    Raises UserError, one line, for a file that is missing or no YAML mapping, and for what the
    schema does not allow.
    """
    config: dict = {}
    for path in [project / "config.yaml", *map(Path, files)]:
        merge(config, read_file(path))
    schema = yaml.safe_load((project / "workflow/schemas/config.schema.yaml").read_text())
    if entries:
        from snakemake.cli import parse_config  # a second to import

        overrides = parse_config(entries)
        merge(config, overrides)
        read_overrides(config, overrides, schema)
    check_config(config, schema)
    return config


def read_file(path: Path) -> dict:
    """One file of a configuration. Raises UserError, one line, where it is none."""
    try:
        content = _load(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: {_other(path)}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: no UTF-8 text ({error}): save it as such") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {_not_yaml(error, path)}") from None
    except ValueError as error:  # 2026-13-45, as the date that YAML takes it for
        raise UserError(
            f"{path}: a value that YAML can't read ({error}): put it in quotes"
        ) from None
    except RecursionError:
        raise UserError(f"{path}: not YAML (nested too deep)") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: no configuration: lines KEY: VALUE are wanted")
    return content


def _other(path: Path) -> str:
    """What to give instead of a path that can't be read."""
    beside = {file.stem: file for file in path.parent.glob("*.y*ml") if file != path}
    close = difflib.get_close_matches(path.stem, beside, n=1)
    if close:
        return f"did you mean {str(beside[close[0]])!r}?"
    return "give the path of a configuration"


def _not_yaml(error: yaml.YAMLError, path: Path) -> str:
    """What is wrong and in which line; PyYAML's own text has several."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f"not YAML: {' '.join(str(error).split())}"
    lines = path.read_text(encoding="utf-8").splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    near = line[max(0, mark.column - 1) : mark.column + 1]
    special = next((character for character in near if character in "*@`%&!"), None)
    hint = "KEY: VALUE is wanted, the keys of a section indented by the same number of blanks"
    if near.endswith("\t"):
        hint = "indent with blanks, not tabs"
    elif special:
        hint = f"text that begins with {special} stands in quotes"
    return f"line {mark.line + 1}: not YAML ({error.problem}): {hint}"


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
            with contextlib.suppress(yaml.YAMLError, ValueError, RecursionError):
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
