"""What code a rule runs: one short digest for its script and each module that it imports.

Snakemake sees a script by its modification time and imported modules not at all. These digests are
handed to each rule as a parameter instead, so that an edit of a module reruns exactly the rules
that import it, directly or not, and a touched file, a checkout or a changed comment reruns
nothing: they are taken from the syntax tree without comments and docstrings.

Rests on absolute imports and empty `__init__.py` files; a test keeps both.
"""

import ast
import functools
import hashlib
from pathlib import Path


@functools.cache
def code_of(scripts: Path, script: str) -> dict[str, str]:
    """Digests of `script` and of all modules below `scripts` that it imports.

    Returns {path relative to `scripts`: 12 hexadecimal digits}, sorted by path.
    """
    found: dict[str, str] = {}
    waiting = [scripts / script]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(scripts).as_posix()
        if name in found:
            continue
        found[name], imported = _digest_and_imports(scripts, path)
        waiting.extend(imported)
    return dict(sorted(found.items()))


@functools.cache
def _digest_and_imports(scripts: Path, path: Path) -> tuple[str, tuple[Path, ...]]:
    tree = ast.parse(path.read_bytes(), filename=str(path))
    imported = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from package import module`: the name may be a module or something inside one.
            imported += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    _drop_docstrings(tree)
    digest = hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:12]
    files = (scripts / f"{name.replace('.', '/')}.py" for name in imported if name)
    return digest, tuple(sorted({file for file in files if file.is_file()}))


def _drop_docstrings(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            node.body = node.body[1:]
