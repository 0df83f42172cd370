"""A rule's code is its script and what that imports: no more, no less, and not its comments."""

import ast

import pytest
from slideunet import code_digest


@pytest.fixture
def scripts(tmp_path):
    package = tmp_path / "slideunet"
    (package / "deep").mkdir(parents=True)
    for folder in (package, package / "deep"):
        (folder / "__init__.py").touch()
    (tmp_path / "train.py").write_text("from slideunet.loop import run\n")
    (package / "loop.py").write_text(
        '"""Loop."""\nimport slideunet.grid\n\ndef run():\n'
        '    """Run."""\n    from slideunet.deep import inner\n    return inner, 1\n'
    )
    (package / "grid.py").write_text("SIDE = 3\n")
    (package / "deep" / "inner.py").write_text("import os\n")
    (package / "other.py").write_text("import slideunet.loop\n")
    return tmp_path


def code(scripts):
    code_digest.code_of.cache_clear()
    code_digest._digest_and_imports.cache_clear()
    return code_digest.code_of(scripts, "train.py")


def test_follows_all_imports_and_nothing_else(scripts):
    assert list(code(scripts)) == [
        "slideunet/deep/inner.py",
        "slideunet/grid.py",
        "slideunet/loop.py",
        "train.py",
    ]


def test_an_edit_changes_only_the_edited_file(scripts):
    before = code(scripts)
    (scripts / "slideunet" / "grid.py").write_text("SIDE = 4\n")
    after = code(scripts)
    assert [name for name in before if before[name] != after[name]] == ["slideunet/grid.py"]


def test_comments_docstrings_and_layout_do_not_count(scripts):
    before = code(scripts)
    loop = scripts / "slideunet" / "loop.py"
    text = loop.read_text().replace('"""Run."""', '"""Runs on and on."""  # why')
    loop.write_text("# about\n" + text)
    assert code(scripts) == before


def test_every_import_of_the_package_is_absolute_and_every_init_empty(project):
    """The digests rest on it: a relative import would not be followed."""
    package = project / "workflow" / "scripts"
    for path in package.rglob("*.py"):
        if path.name == "__init__.py":
            assert path.read_bytes() == b"", f"{path} must be empty"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno}: relative import"


def test_importing_one_way_only(project):
    """No module imports itself over others: there is no circle."""
    scripts = project / "workflow" / "scripts"
    modules = [path.relative_to(scripts).as_posix() for path in scripts.rglob("slideunet/**/*.py")]
    direct = {
        name: {
            path.relative_to(scripts).as_posix()
            for path in code_digest._digest_and_imports(scripts, scripts / name)[1]
        }
        for name in modules
    }

    def reaches(name, goal, seen):
        for other in direct[name] - seen:
            seen.add(other)
            if other == goal or reaches(other, goal, seen):
                return True
        return False

    assert [name for name in modules if reaches(name, name, set())] == []
