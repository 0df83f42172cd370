"""Write the training table of a data set of the Cell Tracking Challenge, as it is unpacked.

    python workflow/experiments/celltracking_table.py PhC-C2DH-U373 > phc.tsv

Sequence SEQ has its frames in SEQ/tNNN.tif, gold truth of some in SEQ_GT/SEG/man_segNNN.tif,
and may have silver truth in SEQ_ST/SEG. The sequence's name becomes the split.
"""

import sys
from pathlib import Path

COLUMNS = ("id", "image", "label", "silver", "split", "label_type")


def rows(folder: Path) -> list[tuple[str, ...]]:
    """A row for each frame with gold truth; SystemExit, one line, where the layout is another."""
    found = []
    for gold in sorted(folder.glob("[0-9][0-9]_GT/SEG/man_seg*.tif")):
        sequence, frame = gold.parts[-3][:2], gold.stem.removeprefix("man_seg")
        image = folder / sequence / f"t{frame}.tif"
        if not image.is_file():
            raise SystemExit(f"{gold}: its frame {image} is missing")
        silver = folder / f"{sequence}_ST" / "SEG" / gold.name
        found.append(
            (
                f"{sequence}-{frame}", str(image), str(gold),
                str(silver) if silver.is_file() else "", sequence, "instances",
            )
        )  # fmt: skip
    if not found:
        raise SystemExit(
            f"{folder}: no 01_GT/SEG/man_seg*.tif: name the unpacked data set's folder"
        )
    return found


def main() -> None:
    """Print the table."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    for row in (COLUMNS, *rows(Path(sys.argv[1]))):
        print("\t".join(row))


if __name__ == "__main__":
    main()
