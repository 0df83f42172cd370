"""A results folder as a night leaves it, made up: tables, pictures, logs, benchmarks."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from slideunet import slide_failures, timing
from slideunet.manifest import sealed


def write_table(path: Path, rows: list[dict], columns: list[str] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]), delimiter="\t", restval="")
        writer.writeheader()
        writer.writerows(rows)


def archive_row(name: str, number: int, status: str = "done") -> dict:
    """A slide of archive.tsv, with figures that differ from row to row."""
    if status != "done":
        return {"slide": name, "status": status}
    return {
        "slide": name, "status": "done", "height_px": 30000 + number, "width_px": 40000,
        "mpp_y_um": 0.25, "mpp_x_um": 0.25, "reader": "openslide", "tissue_mm2": 40 + number / 7,
        "tissue_fraction": 0.4, "focus": 200 + number, "saturation": 0.3, "pen_fraction": 0,
        "bad_tiles": 0, "tile_px": 1024, "computed_px": 500_000_000, "masked_px": 0,
        "objects": 1000 * number, "density_per_mm2": 25 * number,
    }  # fmt: skip


def timing_row(name: str) -> dict:
    values = (60.0, 10.0, 1.0, 45.0, 4.0, 1, 75.0, 500_000_000, 8.333)
    return {"slide": name, **dict(zip(timing.COLUMNS, values, strict=True))}


def made_night(folder: Path, rows: list[dict], failures: list[dict], picture_px: int = 0) -> None:
    """Write the folder; with `picture_px` each slide that is done has two pictures of noise, the
    hardest to compress.
    """
    columns = ["slide", "status", *slide_failures.COLUMNS]
    write_table(folder / "archive.tsv", rows, columns)
    write_table(folder / "failures.tsv", failures, ["slide", "stage", "reason", "log"])
    done = [row["slide"] for row in rows if row["status"] == "done"]
    write_table(
        folder / "timing.tsv", [timing_row(name) for name in done], ["slide", *timing.COLUMNS]
    )
    if picture_px:
        random = np.random.default_rng(0)
        for name in done:
            pictures = folder / "slides" / name / "pictures"
            pictures.mkdir(parents=True)
            noise = random.integers(0, 256, (picture_px * 3 // 4, picture_px, 3), np.uint8)
            for path in (pictures.parent / "thumbnail.png", pictures / "overlay.png"):
                Image.fromarray(noise).save(path, compress_level=1)


def benchmark(folder: Path, rule: str, name: str, seconds: float) -> None:
    write_table(folder / "benchmarks" / rule / f"{name}.tsv", [{"s": seconds, "h:m:s": "0"}])


def log_file(folder: Path, rule: str, name: str, *lines: str) -> None:
    path = folder / "logs" / rule / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def model(folder: Path, name: str, classes: list[str], tested: str = "cd") -> str:
    """A network's manifest with learning curves beside it; trained on the image "ab"."""
    manifest = folder / "models" / name / "train.json"
    manifest.parent.mkdir(parents=True)
    facts = {"architecture": {"depth": 3, "base_channels": 16}, "steps": 1500, "mpp_um": 0.5}
    files = [{"path": "model.safetensors", "size": 1, "sha256": "ab" * 32}]
    inputs = {"images": ["ab" * 32], "validation_images": [tested * 32]}
    content = {"kind": "train", "status": "done", "files": files, "inputs": inputs}
    manifest.write_bytes(sealed({**content, "facts": {**facts, "classes": classes}}))
    Image.new("RGB", (700, 500), (9, 99, 199)).save(manifest.with_name("curves.png"))
    return str(manifest)
