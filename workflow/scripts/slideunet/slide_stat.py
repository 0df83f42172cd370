"""Size and time of a slide's files, without opening one of them.

Imported by the Snakefile side.
"""

import os


def stat_of(path: str) -> dict[str, int]:
    """Size in bytes and latest modification time in ns of a slide, with what lies in the folder
    that it is or that belongs to it: {"mtime_ns", "size"}.

    Folders are looked into one level deep: enough for DICOM and MRXS; of an OME-Zarr only what lies
    on top is seen. Raises OSError where there is nothing.
    """
    folder = os.path.splitext(path)[0] if path.lower().endswith(".mrxs") else path
    found = [os.stat(path)]
    if os.path.isdir(folder):
        with os.scandir(folder) as entries:
            found += [entry.stat() for entry in entries if entry.is_file()]
    return {
        "mtime_ns": max(stat.st_mtime_ns for stat in found),
        "size": sum(stat.st_size for stat in found),
    }
