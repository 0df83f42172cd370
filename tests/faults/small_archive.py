"""The smallest archive on which every stage has something to do, and a call of each stage."""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from slideunet.stages.compare import compare
from slideunet.stages.evaluate import evaluate
from slideunet.stages.index import index
from slideunet.stages.ingest import ingest
from slideunet.stages.objects import objects
from slideunet.stages.overlay import overlay
from slideunet.stages.segment import segment, segment_part
from slideunet.stages.train import train
from slideunet.stages.weights import weights
from small_project import nuclei
from test_evaluate import EVALUATE
from test_evaluate import SETTINGS as TRAIN
from test_objects_stage import OPTIONS, OVERLAY
from test_segment_stage import INDEX
from test_segment_stage import SETTINGS as SEGMENT

# What names time, host or code, and so differs from run to run (docs/reliability.md).
UNLISTED = ("events", "model.json", "segmentation.timing.json", "1-of-2.timing.json")
STAGES = ("ingest", "weights", "train", "evaluate", "index", "copy", "segment", "segment_part",
          "objects", "overlay", "compare")  # fmt: skip


@dataclass(frozen=True)
class Archive:
    """Raw files, and each stage's calm results in a folder of its name."""

    folder: Path

    def call(self, stage: str, out: Path) -> tuple:
        """(function, keywords) that make a stage's artefact in the folder `out`."""
        done = self.folder
        code = {"code": {}}
        image, label = str(done / "raw/a.tif"), str(done / "raw/a_label.tif")
        slide, segmented = str(done / "index/slide.json"), str(done / "segment/segmentation.json")
        images, maps = [str(done / "ingest/a.json")], [str(done / "weights/a.json")]
        model, found = str(done / "train/train.json"), str(done / "objects/objects.json")
        copied = copy.deepcopy(INDEX)
        copied["index"]["copy"] = True
        raw = {"slide": str(done / "raw/slide.tif"), "tissue": []}
        parts = {"slide": slide, "models": [model], "settings": SEGMENT}
        calls = {
            "ingest": (ingest, "a", {"image": image, "label": label,
                                     "settings": {"classes": TRAIN["classes"]}}),
            "weights": (weights, "a", {"image": images[0], "settings": TRAIN["weights"]}),
            "train": (train, "train", {"images": images, "weights": maps,
                                       "validation_images": images, "validation_weights": maps,
                                       "settings": training(), "gpus": 0}),
            "evaluate": (evaluate, "main", {"model": model, "images": images, "gpus": 0,
                                            "settings": EVALUATE}),
            "index": (index, "slide", {**raw, "settings": INDEX}),
            "copy": (index, "slide", {**raw, "settings": copied}),
            "segment": (segment, "segmentation", parts),
            "segment_part": (segment_part, "1-of-2", {**parts, "part": 1, "n_parts": 2}),
            "objects": (objects, "objects", {
                "slide": slide, "segmentation": segmented,
                "settings": {"classes": TRAIN["classes"],
                             "objects": {**OPTIONS, "also": ["csv", "h5ad"]}}}),
            "overlay": (overlay, "overlay", {"slide": slide, "objects": found,
                                             "segmentation": segmented,
                                             "settings": {"overlay": OVERLAY}}),
            "compare": (compare, "accuracy", {"objects": found, "settings": EVALUATE,
                                              "label": str(done / "raw/slide_label.tif")}),
        }  # fmt: skip
        function, name, keywords = calls[stage]
        return function, {**keywords, **code, "manifest": str(out / f"{name}.json")}

    def calm(self, stage: str) -> dict[str, bytes]:
        """What the stage makes when nobody disturbs it."""
        return content(self.folder / stage)


def folder_of(stage: str, parent: Path) -> Path:
    """A new folder for a stage's results; its name, which stands in pictures, is the stage's."""
    folder = parent / stage
    folder.mkdir(parents=True)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Path -> bytes of all that must be the same each time, work folders that were left too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not set(path.relative_to(folder).parts) & set(UNLISTED)
    }


def training() -> dict:
    """A training of some steps with a checkpoint after every second."""
    settings = copy.deepcopy(TRAIN)
    settings["train"] |= {"steps": 8, "checkpoint_every_steps": 2, "validate_every_steps": 4}
    return settings


def write_slide(path: Path, seed: int, side: tuple[int, int] = (130, 200)) -> np.ndarray:
    """A tiled 16-bit slide with discs of known pixel size; its labels."""
    image, label = nuclei(*side, seed)
    tifffile.imwrite(
        path, image, tile=(64, 64), compression="zlib", metadata=None,
        resolution=(20000, 20000), resolutionunit="CENTIMETER",
    )  # fmt: skip
    return label


def make_archive(folder: Path) -> Archive:
    """Raw files and calm results, each stage once."""
    raw = folder / "raw"
    raw.mkdir()
    image, label = nuclei(64, 80, 0)
    tifffile.imwrite(raw / "a.tif", image, metadata=None)
    tifffile.imwrite(raw / "a_label.tif", label, metadata=None)
    tifffile.imwrite(raw / "slide_label.tif", write_slide(raw / "slide.tif", 1), metadata=None)
    archive = Archive(folder)
    for stage in STAGES:
        (folder / stage).mkdir()
        function, keywords = archive.call(stage, folder / stage)
        function(**keywords)
    return archive
