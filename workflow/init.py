"""A first configuration and tables for a folder of slides: make init FOLDER=/data/slides

    python workflow/init.py FOLDER [--name NAME] [--into FOLDER]

Writes NAME.yaml, NAME-slides.tsv and NAME-training.tsv; overwrites nothing. Slides are not opened.
Annotations are found by name: beside a.svs a.geojson (QuPath), a.xml (ImageScope), a_label.tif.
"""

import argparse
import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parent / "scripts"))

from slideunet import starting
from slideunet.errors import UserError

PROJECT = Path(__file__).parents[1]


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--name", help="of the files; by default the folder's")
    parser.add_argument("--into", type=Path, default=Path())
    given = parser.parse_args()
    schema = yaml.safe_load((PROJECT / "workflow/schemas/slides.schema.yaml").read_text())
    try:
        found = starting.look(given.folder, schema)
        name = starting.name_of(given.name or given.folder)
        files = starting.write(found, name, given.into, PROJECT)
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    many = "" if len(found.slides) == 1 else "s"
    print(f"{len(found.slides)} slide{many}, {len(found.labels)} annotated", end="")
    print(f", {len(found.refused)} not usable" if found.refused else "")
    print("written:", ", ".join(map(str, files)))
    print(
        "next: look through them, then "
        f".venv/bin/snakemake --profile profiles/local --configfile {files[-1]}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
