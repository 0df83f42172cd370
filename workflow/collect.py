"""One table of all slides that lie in a results folder, whichever runs made them:

    python workflow/collect.py RESULTS

For archives that are split over several runs (docs/scale.md). Writes archive.tsv and failures.tsv
as rule archive does; the status is not 0 where a slide failed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "scripts"))

from slideunet.slide_failures import write_tables


def main(results: str) -> int:
    """Gather; 1 where a slide failed."""
    folder = Path(results) / "slides"
    if not folder.is_dir():
        sys.exit(f"{folder}: no such folder: give the folder that `results` names in config")
    slides = sorted(path.name for path in folder.iterdir() if path.is_dir())
    done, failed = write_tables(results, slides, [])
    print(f"{done} slides done, {failed} failed: {results}/archive.tsv, {results}/failures.tsv")
    return int(failed > 0)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
