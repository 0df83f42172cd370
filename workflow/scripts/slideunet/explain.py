"""Why each job will run, in words: from what Snakemake noted when the result was made.

Imported by the Snakefile side.
"""

import ast
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable

# So many slides or images are named; of more the number is told.
NAMED = 3


def why(job: object) -> list[str]:
    """The reasons why one of Snakemake's jobs will run (empty: none)."""
    reason, record = job.dag.reason(job), job.dag.workflow.persistence
    said = ["you asked for it by name (a forcing option)"] if reason.forced else []
    if reason._missing_output:
        known = any(record.metadata(file) is not None for file in job.output)
        return [*said, "its result is gone" if known else "it was never made"]
    if reason._incomplete_output:
        return [*said, "the job that was making it was cut off"]
    # Snakemake looks for one reason; a user who edited two things wants to see both.
    if any(record.input_changed(job)):
        before = next(found for file in job.output if (found := record.input(file)) is not None)
        said += changed_inputs(before, job.input)
    params = record.params_changed(job)
    if params:
        said += changed_params(params.only_old, params.only_new)
    made_anew = set(reason._updated_input_run or ())
    edited = sorted(set(reason._updated_input or ()) - made_anew)
    said += [f"{file} has other content" for file in edited]
    if reason.software_stack_changed:
        said.append("its software environment changed")
    if made_anew:
        rules = {d.rule.name for d, files in job.dag.dependencies[job].items() if files & made_anew}
        said.append(f"it follows {join(sorted(rules))}")
    return said


def changed_inputs(before: Collection[str], now: Collection[str]) -> list[str]:
    """What was added to a job's input files and what was taken away."""
    found = [("new input", sorted(set(now) - set(before)))]
    found.append(("no longer an input", sorted(set(before) - set(now))))
    return [f"{what}: {some(files)}" for what, files in found if files]


def changed_params(before: Iterable[str], now: Iterable[str]) -> list[str]:
    """What changed among a job's parameters, as Snakemake keeps them: printed Python values."""
    old, new = _by_kind(before), _by_kind(now)
    said = []
    for kind in sorted(old.keys() | new.keys()):
        one, other = _flat(old.get(kind)), _flat(new.get(kind))
        keys = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
        if kind == "code":
            said.append(f"its code changed: {some(f'workflow/scripts/{key}' for key in keys)}")
        elif kind == "file":
            words = "another size" if "size" in keys else "another time and content"
            said.append(f"the slide's file has changed: {words}")
        else:
            said += [_setting(key, one, other) for key in keys]
    return said or ["its settings were noted differently"]


def _by_kind(values: Iterable[str]) -> dict[str, object]:
    """code, file or settings -> value; several of one kind are merged."""
    found = {}
    for text in values:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
        if isinstance(value, dict) and value and all(str(key).endswith(".py") for key in value):
            found["code"] = value
        elif isinstance(value, dict) and value.keys() == {"mtime_ns", "size"}:
            found["file"] = value
        elif isinstance(value, dict):
            found["settings"] = {**found.get("settings", {}), **value}
        elif value is not None:
            found.setdefault("settings", {})["(a list)"] = value
    return found


def _flat(value: object, path: str = "") -> dict[str, object]:
    """section.key -> value."""
    if not isinstance(value, dict):
        return {path: value} if path else {}
    found = {}
    for key, inner in value.items():
        # a path of a module holds dots of its own
        found |= _flat(inner, f"{path}.{key}" if path else str(key))
    return found


def _setting(key: str, before: dict, now: dict) -> str:
    if key == "(a list)":
        old, new = (_rows(values.get(key)) for values in (before, now))
        gone, added = old - new, new - old
        parts = [f"{len(added)} new"] if added else []
        parts += [f"{len(gone)} gone"] if gone else []
        return f"the table's rows changed: {join(parts) or 'their order'}"
    if key not in before:
        return f"config {key} is new: {now[key]!r}"
    if key not in now:
        return f"config {key} is gone (was {before[key]!r})"
    return f"config {key} is {now[key]!r}, was {before[key]!r}"


def _rows(values: object) -> Counter:
    return Counter(map(str, values if isinstance(values, list) else [values] if values else []))


def some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    more = len(names) - NAMED
    return join(names[:NAMED]) if more <= 0 else f"{', '.join(names[:NAMED])} and {more} more"


def join(words: list[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def report(jobs: Iterable[tuple[str, str, list[str]]]) -> list[str]:
    """Lines for (rule, what it is of, reasons): jobs of a rule with equal reasons share a line."""
    alike = defaultdict(list)
    for rule, name, reasons in jobs:
        alike[rule, "; ".join(reasons) or "what it makes is wanted"].append(name)
    return [
        " ".join(filter(None, [rule, some(filter(None, names))])) + f": {reasons}"
        for (rule, reasons), names in alike.items()
    ]
