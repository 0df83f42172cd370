"""Where a run stands: networks and slides done, failed, waiting, and for how long: make status

    python workflow/status.py [--configfile mine.yaml ...] [--config KEY=VALUE ...]

Takes the configuration that the run was called with. Reads files only: it needs no lock and may be
called while the run goes on.
"""

import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parent / "scripts"))

from slideunet import command_line, settings, slide_folder, standing
from slideunet.errors import UserError

PROJECT = Path(__file__).parents[1]


def main() -> int:
    """The exit status."""
    try:
        # What else the run was called with (a profile, cores) says nothing of where it stands.
        config = command_line.read_configuration(sys.argv[1:], PROJECT)
        schema = yaml.safe_load((PROJECT / "workflow/schemas/slides.schema.yaml").read_text())
        slides, refused = (
            slide_folder.read_slides(config["slides"], schema, look=False)
            if config["slides"]
            else ({}, [])
        )
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    steps = {
        name: settings.model_settings(config, name)["train"]["steps"]
        for name in settings.models_of(config)
    }
    print("\n".join(standing.report(Path(config["results"]), sorted(slides), refused, steps)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
