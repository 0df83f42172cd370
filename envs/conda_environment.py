"""Write envs/environment*.yaml from the locks: python envs/conda_environment.py

The versions stand in the file itself: Snakemake copies it to where it keeps its environments, so
that a line `-r requirements.txt` would lead nowhere, and takes an environment for changed where the
file has.
"""

from pathlib import Path

ENVS = Path(__file__).parent
# What each is for, and its locks.
FILES = {
    "environment": ("all Python rules", ["requirements.txt"]),
    "environment-export": (
        "rules export and crate",
        ["requirements.txt", "requirements-export.txt"],
    ),
}


def environment(name: str) -> str:
    """The text of envs/NAME.yaml."""
    rules, locks = FILES[name]
    text = f"""\
# The environment of {rules} for `snakemake --sdm conda`: Python and pip by conda, the lock
# ({" and ".join(locks)}) by pip. Written by `make lock`: do not edit.
channels: [conda-forge, nodefaults]
dependencies:
  - python=3.11
  - pip
  - pip:
"""
    lines = [line for lock in locks for line in (ENVS / lock).read_text().splitlines()]
    return text + "".join(f"      - {line}\n" for line in lines if line and line[0] != "#")


if __name__ == "__main__":
    for name in FILES:
        (ENVS / f"{name}.yaml").write_text(environment(name))
