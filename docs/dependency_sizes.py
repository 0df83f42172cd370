"""Size and licence of each package that envs/*.in names, as installed here.

    .venv/bin/python docs/dependency_sizes.py      # docs/dependencies.md has what it said

A package's own files, without those of the packages that it brings. Licences are what the package's
metadata says; where that is nothing or the whole text, its file LICENSE was read.
"""

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ENVS = Path(__file__).parents[1] / "envs"


def names(path: Path) -> list[str]:
    """The packages that a requirements file names."""
    found = (re.match(r"[A-Za-z0-9._-]+", line) for line in path.read_text().splitlines())
    return [match[0] for match in found if match]


def size_mb(package: Distribution) -> float:
    """Its installed files together, MB."""
    files = (Path(package.locate_file(file)) for file in package.files or [])
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


if __name__ == "__main__":
    for path in sorted(ENVS.glob("*.in")):
        print(path.name)
        for name in names(path):
            try:
                package = distribution(name)
            except PackageNotFoundError:
                print(f"  {name:36} not installed here")
                continue
            told = package.metadata.get("License-Expression") or package.metadata.get("License")
            print(f"  {name:36} {size_mb(package):6.1f} MB  {(told or '').splitlines()[:1]}")
