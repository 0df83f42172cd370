"""A small project on made-up images, and Snakemake run on it for real."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
import tifffile
import yaml

SMALL = {
    "training": "tables/training.tsv",
    "slides": "tables/slides.tsv",
    "classes": ["background", "nucleus"],
    "network": {"depth": 2, "base_channels": 8},
    "train": {
        "steps": 60,
        "input_px": 92,
        "threads": 1,
        "average_decay": 0.9,
        "learning_rate": 0.01,
        "validate_every_steps": 30,
        "checkpoint_every_steps": 10,
        "precision": "float32",
    },
    "segment": {
        "tile_px": 128,
        "shard_px": 256,
        "chunk_px": 128,
        "precision": "float32",
        "threads": 1,
    },
    "objects": {"block_px": 128},
}


def nuclei(height: int, width: int, seed: int, spacing: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Bright discs on noise: image (Y, X) uint16, instance labels (Y, X) uint16."""
    random = np.random.default_rng(seed)
    label = np.zeros((height, width), np.uint16)
    rows, columns = np.mgrid[:height, :width]
    number = 0
    for y in range(spacing // 2, height, spacing):
        for x in range(spacing // 2, width, spacing):
            centre = np.array([y, x]) + random.integers(-4, 5, 2)
            radius = random.integers(7, 12)
            number += 1
            label[(rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2] = number
    image = 800 + 2500 * (label > 0) + random.normal(0, 150, label.shape)
    return image.clip(0, 65535).astype(np.uint16), label


@dataclass
class Project:
    """A copy of the workflow with made-up images in a folder of its own."""

    folder: Path

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run Snakemake with the local profile; output and errors in `stdout`."""
        command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local"]
        done = subprocess.run(
            [*command, "--cores", "2", *arguments, "--configfile", "small.yaml"],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"snakemake {' '.join(arguments)} failed:\n{done.stdout}")
        return done

    def planned(self, *arguments: str) -> dict[str, int]:
        """Rule -> number of jobs that a dry run would do."""
        stdout = self.snakemake("-n", *arguments).stdout
        found = re.findall(r"^(\w+) +(\d+)$", stdout, flags=re.MULTILINE)
        return {rule: int(count) for rule, count in found if rule not in ("total", "all")}

    def configure(self, **changes: object) -> None:
        """Merge changes into the configuration: section={key: value} or key=value."""
        path = self.folder / "small.yaml"
        config = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            merge = isinstance(value, dict) and isinstance(config.get(key), dict)
            config[key] = {**config[key], **value} if merge else value
        path.write_text(yaml.safe_dump(config))

    def read(self, path: str) -> dict:
        """A JSON file of the project."""
        return json.loads((self.folder / path).read_bytes())

    def write_table(self, name: str, *rows: str) -> None:
        """Write tables/NAME.tsv; cells are separated by blanks here."""
        folder = self.folder / "tables"
        folder.mkdir(exist_ok=True)
        text = "".join("\t".join(row.split(" ")) + "\n" for row in rows)
        (folder / f"{name}.tsv").write_text(text)

    def results(self) -> dict[str, bytes]:
        """Path -> bytes of every result that must be the same for the same inputs."""
        folder = self.folder / "results"
        skip = ("logs", "benchmarks", "events", "parts")
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
            and not set(path.relative_to(folder).parts) & set(skip)
            and path.name
            not in ("segmentation.timing.json", "timing.tsv", "source.json", "morning.html")
        }


def copy_workflow(source: Path, folder: Path) -> Project:
    """The workflow with its profiles in a folder of its own, without images."""
    folder.mkdir(parents=True, exist_ok=True)
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("workflow", "profiles", "envs"):
        shutil.copytree(source / name, folder / name, ignore=ignore)
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(source / name, folder)
    return Project(folder)


def make_project(source: Path, folder: Path) -> Project:
    """Copy the workflow and make its images: two training images, two slides."""
    project = copy_workflow(source, folder)
    raw = folder / "raw"
    raw.mkdir()
    for seed, name in enumerate(("a", "b", "c")):
        image, label = nuclei(128, 160, seed)
        tifffile.imwrite(raw / f"{name}.tif", image, metadata=None)
        tifffile.imwrite(raw / f"{name}_label.tif", label, metadata=None)
    for seed, name in enumerate(("one", "two"), start=10):
        image, label = nuclei(300, 421, seed)
        tifffile.imwrite(
            raw / f"{name}.ome.tif", image, tile=(128, 128), compression="zlib",
            metadata={
                "axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5,
                "UUID": f"urn:uuid:{UUID(int=seed)}",  # the same bytes each time
            },
        )  # fmt: skip
        tifffile.imwrite(raw / f"{name}_label.tif", label, metadata=None)
    project.write_table(
        "training",
        "id image label split",
        "a raw/a.tif raw/a_label.tif train",
        "b raw/b.tif raw/b_label.tif test",
    )
    project.write_table("slides", "id image label", "one raw/one.ome.tif raw/one_label.tif")
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    return project
