"""How far the estimates of space are off, on a slide that has been segmented:

    PYTHONPATH=workflow/scripts python tests/bench/bench_space.py results hela

Segments the slide and makes its objects again in a temporary folder, with the settings of its
manifests, as if the disk were small; prints estimate and size of both, without files that were
there before. Needs the slide, and the networks in the results folder.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from slideunet import segmentation_space
from slideunet.manifest import read_manifest
from slideunet.stages import objects as objects_stage
from slideunet.stages import segment as segment_stage

METADATA = {"zarr.json", ".zarray", ".zattrs", ".zgroup"}


def watch(module, asked: list) -> None:
    """Little is free, nothing is refused, and the estimates are kept."""
    module.free_bytes = lambda folder: 0
    module.check_space = lambda folder, need, what: asked.append(need)


def size_of(manifest: Path, but: tuple[str, ...] = ()) -> int:
    """Bytes of the artefact's files, without the metadata of arrays."""
    files = read_manifest(manifest)["files"]
    return sum(f["size"] for f in files if Path(f["path"]).name not in {*METADATA, *but})


def main(results: Path, slide: str, model: str) -> None:
    asked: list = []
    for module in (segmentation_space, objects_stage):
        watch(module, asked)
    made = results / "slides" / slide
    settings = {
        n: read_manifest(made / f"{n}.json")["settings"] for n in ("segmentation", "objects")
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for path in made.iterdir():
            if path.is_file() and not path.name.startswith(("segmentation", "objects")):
                shutil.copy(path, folder)
        common = {"slide": str(folder / "slide.json"), "code": {}}
        manifests = [folder / "segmentation.json", folder / "objects.json"]
        segment_stage.segment(
            **common, models=[str(results / "models" / model / "train.json")],
            manifest=str(manifests[0]), settings=settings["segmentation"],
        )  # fmt: skip
        objects_stage.objects(
            **common, segmentation=str(manifests[0]), manifest=str(manifests[1]),
            settings=settings["objects"],
        )  # fmt: skip
        for need, manifest in zip(asked, manifests, strict=True):
            size = size_of(manifest)
            print(f"{manifest.stem}: {need}; made {size / 1e6:.2f} MB, "
                  f"off by {need.estimate.size / size - 1:+.1%}")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("slide")
    parser.add_argument("--model", default="main")
    told = parser.parse_args()
    main(told.results, told.slide, told.model)
