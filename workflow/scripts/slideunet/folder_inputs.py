"""Inputs that are folders (OME-Zarr, DICOM): one digest over all files, as a setting."""

from pathlib import Path

from slideunet.readers.omezarr import store_files
from slideunet.store import sha256_of, sha256_of_file


def files_and_digests(inputs: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The inputs that are files, for the manifest; and NAME_files -> digest of those that aren't.

    Raises SlideError for links and devices in a folder.
    """
    folders = {name: path for name, path in inputs.items() if Path(path).is_dir()}
    files = {name: path for name, path in inputs.items() if name not in folders}
    return files, {f"{name}_files": sha256_of_folder(path) for name, path in folders.items()}


def sha256_of_folder(folder: str) -> str:
    """One sha256 over the paths and contents of all files of a folder."""
    lines = [f"{sha256_of_file(Path(folder, name))}  {name}\n" for name in store_files(folder)]
    return sha256_of("".join(lines).encode())
