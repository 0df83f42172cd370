"""What is wrong with a configuration, as one line: key, value, what to write instead.

Imported by the Snakefile side: no numpy, no torch.
"""

import difflib
import json

KINDS = {
    "integer": "a whole number is wanted",
    "number": "a number is wanted",
    "string": "text is wanted",
    "boolean": "true or false is wanted",
    "array": "a list is wanted",
    "object": "a section of keys is wanted",
}
LIMITS = {
    "minimum": "at least {} is wanted",
    "exclusiveMinimum": "more than {} is wanted",
    "maximum": "at most {} is wanted",
    "exclusiveMaximum": "less than {} is wanted",
    "minItems": "a list of at least {} is wanted",
    "maxItems": "a list of at most {} is wanted",
    "minProperties": "at least {} of them is wanted",
    "minLength": "it can't be empty",
    "uniqueItems": "one of them stands twice",
}
NAME = "1 to 64 letters, digits, _ and -, a letter or digit first"


def one_line(error, schema: dict) -> str:
    """The line for one of jsonschema's errors; `schema` is that of the whole configuration."""
    where = ".".join(str(part) for part in error.absolute_path)
    at = f"config: {where}" if where else "config"
    if error.validator == "additionalProperties":
        return f"{at}: {_unknown_key(error, schema)}"
    if error.validator == "required":
        name = next(name for name in error.validator_value if name not in error.instance)
        unit = error.schema.get("properties", {}).get(name, {}).get("description")
        path = ".".join(filter(None, (where, name)))
        return f"config: {path}: missing{_in_brackets(unit)}"
    if "propertyNames" in error.absolute_schema_path:
        return f"{at}: name {error.instance!r}: {NAME}"
    said = _what_is_wanted(error)
    unit = error.schema.get("description")
    if said is None:  # of several alternatives: the description names them all
        return f"{at}: {_shown(error.instance)}: {unit or error.message}"
    return f"{at}: {said}{_in_brackets(unit)}"


def _unknown_key(error, schema: dict) -> str:
    known = list(error.schema.get("properties", {}))
    unknown = next(key for key in error.instance if key not in known)
    sections = {
        name: rule.get("properties") or schema["$defs"].get(name, {}).get("properties", {})
        for name, rule in schema["properties"].items()
    }
    homes = [name for name, keys in sections.items() if unknown in keys]
    close = difflib.get_close_matches(str(unknown), known, n=1)
    if homes and not close:
        hint = f"it belongs in section {' or '.join(homes)}, indented"
    elif close:
        hint = f"did you mean {close[0]!r}?"
    else:
        hint = f"known are {', '.join(known)}"
    return f"unknown key {unknown!r}: {hint}"


def _what_is_wanted(error) -> str | None:
    value, rule = error.instance, error.validator_value
    if error.validator == "type":
        return f"{_shown(value)}: {KINDS[rule]}{_as_yaml(value, rule, error.schema)}"
    if error.validator == "enum":
        if str(value) in rule:
            return f'{_shown(value)}: write it in quotes, "{value}"'
        return f"{_shown(value)}: take one of {', '.join(map(str, rule))}"
    if error.validator == "pattern" and "{}<>" in rule:
        return f"{value!r}: {{ }} < > and line ends can't be used in a path: rename or link it"
    if error.validator in LIMITS:
        return f"{_shown(value)}: {LIMITS[error.validator].format(rule)}"
    return None


def _as_yaml(value: object, kind: str, schema: dict) -> str:
    """How to write what was probably meant."""
    if value is None:
        return ', "" for none' if kind == "string" and not schema.get("minLength") else ""
    if kind == "array" and isinstance(value, str | int | float):
        return f": [{value}]"
    if kind == "string":
        return f': in quotes, "{value}"' if isinstance(value, int | float) else ""
    if kind in ("integer", "number") and isinstance(value, str):
        try:
            number = float(value)  # 1e-3 is text in YAML, which wants 1.0e-3
        except ValueError:
            return ""
        return f": write {int(number) if number.is_integer() else number}"
    return ""


def _shown(value: object) -> str:
    """A value as in the file, cut where it is long."""
    if value is None:
        return "nothing is given"
    text = json.dumps(value) if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _in_brackets(unit: str | None) -> str:
    return f" ({unit})" if unit else ""
