"""Write the versions installed here as exact pins: python envs/freeze.py IN.txt OUT.txt [WITHOUT].

Pinned is what IN asks for and all that it rests on, so that one environment in which product and
test tools were installed together gives both locks. A local version such as +cpu is left out: one
version has a CPU build and a CUDA build, and a user takes the one of his index. For the same reason
there are no hashes.
"""

import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

wanted, out, *without = map(Path, sys.argv[1:])
lines = (line.split(" #")[0].strip() for line in wanted.read_text().splitlines())
waiting = [Requirement(line) for line in lines if line and not line.startswith("#")]
pins, seen = set(), set()
while waiting:
    requirement = waiting.pop()
    name = canonicalize_name(requirement.name)
    try:
        found = distribution(name)
    except PackageNotFoundError:
        sys.exit(f"{name}: not installed here")
    pins.add(f"{name}=={found.version.split('+')[0]}")
    for extra in {"", *requirement.extras}:
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for text in found.requires or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting.append(needed)
known = {line for path in without for line in path.read_text().splitlines()}
head = (
    f"# Exact versions for {wanted.name}, tested together, written by `make lock`: do not edit.\n"
)
out.write_text(head + "".join(f"{pin}\n" for pin in sorted(pins - known)))
