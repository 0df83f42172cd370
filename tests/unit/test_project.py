"""What the whole project must keep: its docs, locks and structure are held to what they say."""

import ast
import itertools
import json
import re
import sys
import tomllib
from importlib import import_module

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@pytest.mark.parametrize("name", ["config", "columns"])
def test_the_reference_is_current(project, name):
    sys.path.insert(0, str(project / "docs"))
    try:
        reference = import_module(f"{name}_reference").reference
    finally:
        sys.path.pop(0)
    page = (project / "docs" / f"{name}.md").read_text()
    assert page == reference(), "run `make reference`"


def test_the_readmes_rule_graph_is_snakemakes(project):
    sys.path.insert(0, str(project / "docs"))
    try:
        rule_graph = import_module("rule_graph")
    finally:
        sys.path.pop(0)
    text = (project / "README.md").read_text()
    graph = rule_graph.drawn()
    assert ("train", "evaluate") in rule_graph.edges(graph)
    assert text == rule_graph.with_figure(text, graph), "run `make reference`"
    assert text.count(rule_graph.figure(graph)) == 1


def test_links_between_pages_lead_somewhere(project):
    """`make docs` checks anchors too; here what README.md and the pages name must be there."""
    pages = [project / "README.md", project / "CONTRIBUTING.md", *(project / "docs").glob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page}: {target}"


def test_each_dependency_has_its_row(project):
    """With its size, its licence and what it is for."""
    text = (project / "docs" / "dependencies.md").read_text()
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5:
            rows |= dict.fromkeys(re.findall(r"[A-Za-z0-9._-]+", cells[0].partition("(")[0]), cells)
    wanted = [
        Requirement(line.partition("#")[0].strip()).name
        for path in sorted((project / "envs").glob("requirements*.in"))
        for line in path.read_text().splitlines()
        if not line.startswith("#") and line.strip()
    ]
    assert len(wanted) > 35
    for name in set(wanted) - {"mkdocs-material"}:
        assert re.match(r"\d", rows[name][1]), f"{name}: no size"
        assert rows[name][2] and rows[name][3], f"{name}: no licence, or not what for"
    assert re.search(r"mkdocs-material \(MIT, \d+ MB", text)


def test_each_page_of_the_docs_is_in_the_sites_contents(project):
    contents = (project / "mkdocs.yml").read_text()
    for page in (project / "docs").glob("*.md"):
        assert f": {page.name}\n" in contents, page.name


def pins(project, name):
    lines = (project / "envs" / name).read_text().splitlines()
    found = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[^=+]+", line) for line in found), "exact pins only"
    return dict(line.split("==") for line in found)


@pytest.mark.parametrize(
    "name", ["requirements", "requirements-test", "requirements-export", "requirements-docs"]
)
def test_the_lock_holds_each_range(project, name):
    locked = pins(project, f"{'requirements' if name != 'requirements-docs' else name}.txt")
    if name in ("requirements-test", "requirements-export"):
        locked |= pins(project, f"{name}.txt")
    for line in (project / "envs" / f"{name}.in").read_text().splitlines():
        text = line.split(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        wanted = Requirement(text)
        version = locked[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version), f"{text}: locked is {version}"


def test_the_locks_agree(project):
    """One environment takes all of them (but the docs' own)."""
    locks = [pins(project, f"requirements{name}.txt") for name in ("", "-test", "-export")]
    for one, other in itertools.combinations(locks, 2):
        assert {n: one[n] for n in one.keys() & other} == {n: other[n] for n in one.keys() & other}


@pytest.mark.parametrize(
    ("name", "locks"),
    [
        ("environment", ["requirements.txt"]),
        ("environment-export", ["requirements.txt", "requirements-export.txt"]),
    ],
)
def test_the_conda_environments_are_the_locks(project, name, locks):
    sys.path.insert(0, str(project / "envs"))
    try:
        conda_environment = import_module("conda_environment")
    finally:
        sys.path.pop(0)
    text = (project / "envs" / f"{name}.yaml").read_text()
    assert text == conda_environment.environment(name), "run `python envs/conda_environment.py`"
    *by_conda, by_pip = yaml.safe_load(text)["dependencies"]
    assert by_conda == ["python=3.11", "pip"]
    locked = {n: v for lock in locks for n, v in pins(project, lock).items()}
    assert dict(line.split("==") for line in by_pip["pip"]) == locked
    assert len(locked) > 50


def test_the_container_holds_the_lock_and_nothing_else(project):
    text = (project / "envs" / "Dockerfile").read_text().replace("\\\n", " ")
    steps = [line.split(None, 1) for line in text.splitlines() if line and line[0] != "#"]
    assert {step for step, _ in steps} <= {"FROM", "RUN", "COPY", "ENV", "ENTRYPOINT"}
    python = yaml.safe_load((project / "envs" / "environment.yaml").read_text())["dependencies"][0]
    (base,) = (rest for step, rest in steps if step == "FROM")
    assert base.startswith(f"python:{python.partition('=')[2]}-")
    (copied,) = (rest.split() for step, rest in steps if step == "COPY")
    assert copied[:-1] == ["requirements.txt"]
    assert (project / "envs" / copied[0]).is_file()
    (install,) = (rest for step, rest in steps if "pip install" in rest)
    assert f"--requirement {copied[-1]} " in install
    (entry,) = (rest for step, rest in steps if step == "ENTRYPOINT")
    assert json.loads(entry) == ["snakemake"]


def test_what_other_programs_read_about_the_project_is_true(project):
    citation = yaml.safe_load((project / "CITATION.cff").read_text())
    version = tomllib.loads((project / "pyproject.toml").read_text())["project"]["version"]
    assert citation["version"] == version
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    usage = yaml.safe_load((project / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    flag, profile = usage["mandatory-flags"]["flags"].split()
    assert flag == "--profile"
    assert (project / profile / "config.yaml").is_file()
    rules = "".join(path.read_text() for path in (project / "workflow" / "rules").glob("*.smk"))
    ways = usage["software-stack-deployment"]
    scripts = re.findall(r"^    script:$", rules, re.M)
    named = re.findall(r"^    conda:\n        (?:EXPORT_)?ENVIRONMENT$", rules, re.M)
    assert ways["conda"] == (len(named) == len(scripts) > 0)
    assert ways["apptainer"] == bool(re.search(r"^ *container(ized)?:", rules, re.M))
    assert ways["report"] == ("report(" in rules)


def python_files(project):
    return [
        path
        for folder in ("workflow", "docs", "envs")
        for path in sorted((project / folder).rglob("*.py"))
    ]


def test_files_and_functions_stay_short(project):
    for path in python_files(project):
        text = path.read_text()
        assert text.count("\n") <= 310, f"{path} is longer than about 300 lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                assert lines <= 62, f"{path}:{node.lineno}: {node.name} has {lines} lines"


def test_nothing_runs_what_a_file_or_name_holds(project):
    """No shell, no eval, no pickle, no unsafe YAML, nowhere."""
    calls = re.compile(
        r"shell=True|\beval\(|\bexec\(|yaml\.load\(|\bpickle\b|torch\.load\(|os\.system\(|allow_pickle"
    )
    for path in python_files(project):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom | ast.Call):
                # eval() of torch modules puts a network into evaluation mode: a method, no call
                text = ast.unparse(node.func if isinstance(node, ast.Call) else node) + "("
                keywords = [ast.unparse(k) for k in getattr(node, "keywords", [])]
                found = calls.search(re.sub(r"\.eval\($", "", text)) or any(
                    calls.search(keyword) for keyword in keywords
                )
                assert not found, f"{path}:{node.lineno}: {ast.unparse(node)}"
    for path in [project / "Snakefile", *(project / "workflow" / "rules").glob("*.smk")]:
        assert not re.search(r"^\s+(shell|run):", path.read_text(), re.MULTILINE), path


def test_every_rule_is_whole(project):
    """Docstring, log, benchmark, resources, environment, script; its name is its script's."""
    for path in (project / "workflow" / "rules").glob("*.smk"):
        text = path.read_text()
        for name, body in re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", text, re.M | re.S):
            for part in ('"""', "output:", "log:", "benchmark:", "resources:", "conda:", "script:"):
                assert part in body, f"{path}: rule {name} has no {part}"
            assert f'"../scripts/{name}.py"' in body, f"{path}: rule {name}"
            assert f'code_of("{name}.py")' in body, f"{path}: rule {name} does not track its code"


def test_scripts_only_map_snakemake_onto_one_function(project):
    for path in (project / "workflow" / "scripts").glob("*.py"):
        tree = ast.parse(path.read_text())
        kinds = [type(node) for node in tree.body]
        assert kinds == [ast.Expr, ast.ImportFrom, ast.ImportFrom, ast.If], path
        calls = tree.body[-1].body[0].body
        assert len(calls) == 1, path
        assert isinstance(calls[0], ast.Expr), path


SNAKEFILE_SIDE = ("settings", "tables", "code_digest", "slide_failures", "local_gpus", "geometry")


def test_the_snakefile_side_imports_neither_numpy_nor_torch(project):
    import subprocess

    code = (
        f"import sys; sys.path.insert(0, 'workflow/scripts')\n"
        f"from slideunet import {', '.join(SNAKEFILE_SIDE)}\n"
        "print(sorted({'numpy', 'torch', 'zarr', 'tifffile'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
