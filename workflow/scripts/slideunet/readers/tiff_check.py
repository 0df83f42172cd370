"""A TIFF's skeleton, checked before a full reader opens it: bounded work whatever the file says.

Walks the chain of directories and their SubIFDs with `struct` only, and refuses loops, too many
directories, tags that claim more bytes than the file has, and XML that declares entities.
"""

import os
import struct
from dataclasses import dataclass, field

from slideunet.errors import SlideError
from slideunet.readers.safexml import refuse_entities

# Slides have tens of directories, fluorescence stacks hundreds.
DIRECTORIES_MAX = 4096
TAGS_MAX = 4096
# Directories may share values; honest files never come near 16 times their own size.
TAG_BYTES_FACTOR = 16
XML_BYTES_MAX = 64 << 20

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TYPE_BYTES |= {16: 8, 17: 8, 18: 8}
_SUBIFDS, _DESCRIPTION, _XMP, _NDPI, _ARGOS = 330, 270, 700, 65420, 65000


@dataclass
class Skeleton:
    """What the walk found: `size_bytes` of the file, number of directories, NDPI or not."""

    size_bytes: int
    directories: int = 0
    ndpi: bool = False
    tag_bytes: int = 0
    seen: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class _Format:
    order: str
    count: str
    entry: int
    offset: str


def is_tiff(head: bytes) -> bool:
    """Whether the first four bytes are a classic or Big TIFF's, in either byte order."""
    return head[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}


def check_tiff(path: str) -> Skeleton:
    """Walk the directories of a TIFF file; raises SlideError with the reason to refuse it."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(16)
        if not is_tiff(head) or len(head) < 8:
            raise SlideError(f"{path}: not a TIFF file")
        order = "<" if head[:2] == b"II" else ">"
        if b"+" in head[:4]:
            if len(head) < 16 or struct.unpack(order + "HH", head[4:8]) != (8, 0):
                raise SlideError(f"{path}: not a BigTIFF that can be read: its header is damaged")
            layout = _Format(order, order + "Q", 20, order + "Q")
            first = struct.unpack(order + "Q", head[8:16])[0]
        else:
            layout = _Format(order, order + "H", 12, order + "I")
            # Hamamatsu writes 64-bit offsets into classic TIFF, the first one included.
            wide = path.lower().endswith(".ndpi") and order == "<" and len(head) >= 12
            first = struct.unpack(order + ("Q" if wide else "I"), head[4 : 12 if wide else 8])[0]
        skeleton = Skeleton(size)
        try:
            _walk_chain(path, file, layout, first, skeleton)
        except (ValueError, OverflowError, struct.error) as error:  # offsets beyond 63 bits
            raise SlideError(f"{path}: damaged directory: {error}") from error
    return skeleton


def _walk_chain(path: str, file, layout: _Format, offset: int, skeleton: Skeleton) -> None:
    chain = set()
    while offset:
        if offset in chain:
            raise SlideError(f"{path}: its directories form a loop (at byte {offset})")
        chain.add(offset)
        if offset >= skeleton.size_bytes:
            raise SlideError(
                f"{path}: truncated or damaged: a directory should be at byte {offset}, the file "
                f"has {skeleton.size_bytes}"
            )
        tags, after = _directory(path, file, layout, offset, skeleton)
        for sub in _subdirectories(file, layout, tags):
            if 8 <= sub < skeleton.size_bytes and sub not in skeleton.seen:
                _directory(path, file, layout, sub, skeleton)
        if _NDPI in tags and layout.offset == "<I":
            skeleton.ndpi = True
            width = "<Q"  # Hamamatsu: classic TIFF with 64-bit offsets to the next directory
        else:
            width = layout.offset
        file.seek(after)
        raw = file.read(struct.calcsize(width))
        if len(raw) < struct.calcsize(width):
            raise SlideError(f"{path}: truncated: the directory at byte {offset} has no end")
        offset = struct.unpack(width, raw)[0]


def _directory(path: str, file, layout: _Format, offset: int, skeleton: Skeleton) -> tuple:
    """Tags {code: (type, count, value bytes or offset)} of one directory, and where it ends."""
    skeleton.seen.add(offset)
    skeleton.directories += 1
    if skeleton.directories > DIRECTORIES_MAX:
        raise SlideError(f"{path}: more than {DIRECTORIES_MAX} directories")
    file.seek(offset)
    raw = file.read(struct.calcsize(layout.count))
    number = struct.unpack(layout.count, raw)[0] if len(raw) == struct.calcsize(layout.count) else 0
    entries = file.read(layout.entry * number) if 0 < number <= TAGS_MAX else b""
    if not entries or len(entries) < layout.entry * number:
        raise SlideError(f"{path}: the directory at byte {offset} is damaged or cut off")
    tags = {}
    for at in range(0, len(entries), layout.entry):
        big = layout.entry == 20
        code, kind, count = struct.unpack_from(
            layout.order + ("HHQ" if big else "HHI"), entries, at
        )
        value = entries[at + (12 if big else 8) : at + layout.entry]
        size = count * _TYPE_BYTES.get(kind, 1)
        if size > skeleton.size_bytes:
            raise SlideError(f"{path}: tag {code} claims {size} bytes, more than the file has")
        skeleton.tag_bytes += size
        tags[code] = (kind, count, value)
        if code in {_DESCRIPTION, _XMP, _ARGOS} and size > len(value):
            _check_text(path, file, layout, size, value)
    if skeleton.tag_bytes > TAG_BYTES_FACTOR * skeleton.size_bytes:
        raise SlideError(f"{path}: its tags claim {TAG_BYTES_FACTOR} times the file's bytes")
    return tags, offset + struct.calcsize(layout.count) + len(entries)


def _check_text(path: str, file, layout: _Format, size: int, value: bytes) -> None:
    if size > XML_BYTES_MAX:
        raise SlideError(f"{path}: a description of {size} bytes")
    here = file.tell()
    file.seek(struct.unpack(layout.offset, value)[0])
    refuse_entities(path, file.read(size))
    file.seek(here)


def _subdirectories(file, layout: _Format, tags: dict) -> list[int]:
    if _SUBIFDS not in tags:
        return []
    kind, count, value = tags[_SUBIFDS]
    size = _TYPE_BYTES.get(kind, 1)
    if size not in {4, 8} or count > DIRECTORIES_MAX:
        return []
    if size * count > len(value):
        file.seek(struct.unpack(layout.offset, value)[0])
        value = file.read(size * count)
    count = min(count, len(value) // size)
    return list(struct.unpack_from(f"{layout.order}{count}{'I' if size == 4 else 'Q'}", value))
