"""`conda`, as far as Snakemake calls it: not conda, which is on none of the machines of the tests.

Its environments are venvs that see the packages of the tests' own; what environment.yaml asks pip
for is asked of pip for real, which finds it installed in these versions or fails.
"""

import json
import subprocess
import sys
import sysconfig
from itertools import pairwise
from pathlib import Path

import yaml

PREFIX = Path(sys.argv[0]).parents[1]
NOTE = """
import sys
from pathlib import Path
with open({path!r}, "a") as file:
    print(Path(sys.prefix), *sys.argv, file=file)
"""


def create(file: Path, prefix: Path) -> None:
    """An environment of what a file asks for."""
    asked = yaml.safe_load(file.read_text())["dependencies"]
    (by_pip,) = (one["pip"] for one in asked if isinstance(one, dict))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    (packages,) = prefix.glob("lib/python*/site-packages")
    (packages / "tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (packages / "sitecustomize.py").write_text(NOTE.format(path=str(PREFIX / "ran.txt")))
    # as conda does: the lines in a file beside the environment's
    lines = file.with_suffix(".requirements.txt")
    lines.write_text("".join(f"{line}\n" for line in by_pip))
    pip = [
        prefix / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--no-index",
        "--no-deps",
        "-r",
        lines,
    ]
    subprocess.run(pip, check=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--version"]:
            print("conda 99.9.9")
        case ["info", "--json"]:
            print(json.dumps({"conda_prefix": str(PREFIX), "platform": "linux-64"}))
        case ["config", "--get", "channel_priority", "--json"]:
            print(json.dumps({"get": {"channel_priority": "strict"}}))
        case ["env", "create", *options]:
            given = dict(pairwise(options))
            create(Path(given["--file"]), Path(given["--prefix"]))
        case ["clean", *_]:
            pass
        case other:
            sys.exit(f"the stand-in for conda does not know: {' '.join(other)}")
