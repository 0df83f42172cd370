"""One way to open any slide: look at the bytes, not at the name; then the right reader."""

import os
import stat

from slideunet.errors import SlideError
from slideunet.readers.base import SlideReader, machine_failed
from slideunet.readers.tiff_check import is_tiff

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_ZARR = ("zarr.json", ".zattrs", ".zgroup")


def open_slide(path: str) -> SlideReader:
    """Open a slide file or folder (DICOM, OME-Zarr). Raises SlideError: one line, file, reason."""
    path = os.fspath(path)
    try:
        return _open(path)
    except SlideError:
        raise
    except Exception as error:
        # Headers made to break readers break them in ways nobody listed: still one line.
        if machine_failed(error):
            raise
        raise SlideError(f"{path}: damaged: {error!r}") from error


def _open(path: str) -> SlideReader:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SlideError(f"{path}: there is no such file") from error
    if stat.S_ISDIR(mode):
        return _open_folder(path)
    if not stat.S_ISREG(mode):
        raise SlideError(f"{path}: not a file but a pipe, socket or device")
    try:
        with open(path, "rb") as file:
            head = file.read(132)
    except PermissionError as error:
        raise SlideError(f"{path}: no permission to read it") from error
    if not head:
        raise SlideError(f"{path}: empty file")
    if is_tiff(head):
        return _open_tiff(path)
    if head.startswith((_PNG, _JPEG)) and not path.lower().endswith(".mrxs"):
        from slideunet.readers.plain import PlainReader

        return PlainReader(path)
    if head[128:132] == b"DICM":
        return _open_dicom(path)
    from slideunet.readers.openslide import OpenSlideReader

    return OpenSlideReader(path)


def _open_tiff(path: str) -> SlideReader:
    from slideunet.readers.tiff import TiffReader
    from slideunet.readers.tiff_layout import NotPlacedError

    try:
        return TiffReader(path)
    except NotPlacedError as error:
        from slideunet.readers.openslide import OpenSlideReader

        return OpenSlideReader(path, why=str(error))


def is_zarr_folder(path: str) -> bool:
    """Whether the path is a folder that holds Zarr metadata."""
    return any(os.path.isfile(os.path.join(path, name)) for name in _ZARR)


def _open_folder(path: str) -> SlideReader:
    names = sorted(os.listdir(path))
    if is_zarr_folder(path):
        from slideunet.readers.omezarr import OmeZarrReader

        return OmeZarrReader(path)
    if any(name.lower().endswith(".dcm") for name in names):
        return _open_dicom(path)
    raise SlideError(f"{path}: a folder that is neither OME-Zarr nor DICOM")


def _open_dicom(path: str) -> SlideReader:
    # Not OpenSlide: it reads the same pixels of the files it takes (a test compares them), refuses
    # grey and silent ones, and crashes on damaged ones.
    from slideunet.readers.dicom import DicomReader

    return DicomReader(path)
