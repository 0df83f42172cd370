"""The files that a slide consists of, and their identity."""

import hashlib
import os
from pathlib import Path

from slideunet.errors import SlideError

_BLOCK_BYTES = 8 << 20


def slide_files(path: str) -> list[str]:
    """Paths of all files of a slide, sorted, the named one first if it is a file.

    A folder's files (OME-Zarr), the folder beside an .mrxs, the files of a DICOM series in one
    folder; else the file itself.
    """
    if os.path.isdir(path):
        from slideunet.readers.omezarr import store_files

        names = store_files(path)
        if any(name.lower().endswith(".dcm") and os.sep not in name for name in names):
            from slideunet.readers.dicom import series_files

            return [str(file) for file in series_files(path)]
        return [os.path.join(path, name) for name in names]
    if path.lower().endswith(".mrxs"):
        folder = Path(path).with_suffix("")
        return [path, *sorted(str(file) for file in folder.iterdir() if file.is_file())]
    with open(path, "rb") as file:
        dicom = file.read(132)[128:] == b"DICM"
    if dicom:
        from slideunet.readers.dicom import series_files

        others = [str(file) for file in series_files(path)]
        return [path, *sorted(set(others) - {path})]
    return [path]


def identity(path: str) -> dict:
    """Size, modification time and sha256 of a slide: `files`, `size_bytes`, `mtime_ns`, `sha256`.

    Of several files: the sum, the latest, and the sha256 of the lines "sha256  relative path".
    Raises SlideError if a file changes while it is read.
    """
    files = slide_files(path)
    base = path if os.path.isdir(path) else os.path.dirname(path) or "."
    size, latest, lines = 0, 0, []
    for file in files:
        before = os.stat(file)
        digest = _sha256(file)
        after = os.stat(file)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise SlideError(f"{file}: changes while it is read; index it when it is complete")
        size += after.st_size
        latest = max(latest, after.st_mtime_ns)
        lines.append(f"{digest}  {os.path.relpath(file, base)}\n")
    whole = hashlib.sha256("".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()
    single = not os.path.isdir(path) and len(files) == 1
    return {
        "files": len(files),
        "size_bytes": size,
        "mtime_ns": latest,
        "sha256": lines[0].split(" ")[0] if single else whole,
    }


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
