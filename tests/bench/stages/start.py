"""From `python` to the first tile: what a job costs before it does anything."""

import os
import subprocess
import sys
from pathlib import Path

from turns import Prepared, Program, Stage

SIDE_PX = 512
_HERE = "stages.start"


def stages() -> list[Stage]:
    return [
        Stage(
            "start-up, CPU-ms of a whole process and its children",
            "CPU-ms",
            [
                Program(
                    "ours",
                    f"python to a segmented JPEG slide of {SIDE_PX} px",
                    f"{_HERE}:first_tile",
                ),
                Program(
                    "ours",
                    "python to stage segment imported",
                    f"{_HERE}:imports",
                    {"module": "slideunet.stages.segment"},
                ),
                Program(
                    "ours",
                    "python to stage train imported",
                    f"{_HERE}:imports",
                    {"module": "slideunet.stages.train"},
                ),
                Program(
                    "ours",
                    "python to stage weights imported",
                    f"{_HERE}:imports",
                    {"module": "slideunet.stages.weights"},
                ),
                Program(
                    "ours",
                    "python to stage objects imported",
                    f"{_HERE}:imports",
                    {"module": "slideunet.stages.objects"},
                ),
                Program(
                    "peer",
                    "python to MONAI's sliding window imported",
                    f"{_HERE}:imports",
                    {"module": "monai.inferers"},
                ),
                Program(
                    "limit", "python, `import torch` alone", f"{_HERE}:imports", {"module": "torch"}
                ),
            ],
            f"{_HERE}:make",
        )
    ]


def _environment() -> dict:
    """With the product's modules on the path, and byte code kept as in any installation."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    folder = Path(__file__).parents[3]
    paths = [folder / "workflow" / "scripts", folder / "tests" / "bench"]
    return {**environment, "PYTHONPATH": os.pathsep.join(map(str, paths))}


def make(folder: Path) -> Prepared:
    """A slide of one tile."""
    from procedural_slide import ProceduralSlide, write_jpeg

    return lambda: write_jpeg(folder / "slide.tif", ProceduralSlide(SIDE_PX, SIDE_PX)), 1


def imports(folder: Path, module: str) -> Prepared:
    from importlib.util import find_spec

    if find_spec(module.split(".", maxsplit=1)[0]) is None:
        raise ModuleNotFoundError(module)
    return _python(f"import {module}")


def first_tile(folder: Path) -> Prepared:
    """What a job does for a slide of one tile; its manifest and Snakemake's preamble left out."""
    return _python(
        "import sys, tempfile; from functools import partial; from pathlib import Path\n"
        "from slideunet.job import job\n"
        "import slideunet.stages.segment\n"
        "from slideunet.segmentation import segment_slide\n"
        "from slideunet.slide_source import open_source\n"
        "from procedural_slide import request\n"
        f"opener = partial(open_source, {str(folder / 'slide.tif')!r}, None, None, False)\n"
        f"asked = request({SIDE_PX}, {SIDE_PX}, 'auto', 'auto', open_source=opener, shard_px=512)\n"
        "with tempfile.TemporaryDirectory() as folder, job(folder + '/log'):\n"
        "    segment_slide(asked, Path(folder))"
    )


def _python(code: str) -> Prepared:
    command = [sys.executable, "-c", code]
    return lambda: subprocess.run(command, env=_environment(), check=True), 1
