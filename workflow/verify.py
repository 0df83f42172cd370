"""Check all results against their manifests, every byte: make verify

    python workflow/verify.py [--repair] [RESULTS]

Names each damaged file; exit status 1 if there is one. --repair removes the manifests of what is
damaged: the next call of Snakemake makes that anew.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "scripts"))

from slideunet.errors import UserError
from slideunet.verification import verify_all


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="?", default="results", type=Path)
    parser.add_argument("--repair", action="store_true")
    given = parser.parse_args()
    try:
        checked, damaged = verify_all(given.results, given.repair)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    for damage in damaged:
        print("\n".join(damage.lines))
    if not checked:
        print(
            f"{given.results}: no artefact in it: give RESULTS, the `results` of the configuration"
        )
        return 1
    print(f"{checked} artefacts of {given.results} checked, {len(damaged)} damaged")
    if damaged and given.repair:
        print("their manifests are removed: call Snakemake again to make them anew")
    return 1 if damaged else 0


if __name__ == "__main__":
    sys.exit(main())
