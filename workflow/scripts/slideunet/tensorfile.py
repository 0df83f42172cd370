"""Tensors in one file, in the safetensors format, read and written with numpy and torch alone.

The format (github.com/huggingface/safetensors): 8 bytes of header length, a JSON header with each
tensor's dtype, shape and offsets, then the bytes of the tensors without gaps. It holds no code, so
a stranger's file can be read. Own code, because training must run where only torch, numpy and
scipy are installed, and because the header is judged here before anything is allocated.

Each file carries the sha256 of itself (with that field blanked): a flipped bit anywhere is found.
"""

import hashlib
import json
import math
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from slideunet.durable import written_aside
from slideunet.errors import UserError

DTYPES = {"F32": torch.float32, "I64": torch.int64, "U8": torch.uint8}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
BYTES = {"F32": 4, "I64": 8, "U8": 1}
# A header of a deep U-Net takes 5 kB, the history of 100,000 validations in a checkpoint 20 MB.
MAX_HEADER_BYTES = 64 * 2**20
MAX_DIMENSIONS = 8
BLANK = "0" * 64
PIECE_BYTES = 2**24


class Entry(NamedTuple):
    """A tensor of the file: name of its dtype, shape, byte offsets from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    """Write the file aside, flush it to the disk and rename it; returns the file's sha256.

    Equal tensors and metadata give equal bytes. Tensors may be on any device; their dtypes must be
    float32, int64 or uint8. OSError (a full disk) leaves nothing behind.
    """
    header = _header(tensors, {**metadata, "sha256": BLANK})
    content = hashlib.sha256(header)
    for piece in _pieces(tensors):
        content.update(piece)
    header = _header(tensors, {**metadata, "sha256": content.hexdigest()})
    whole = hashlib.sha256(header)
    with written_aside(path) as file:
        file.write(header)
        for piece in _pieces(tensors):
            file.write(piece)
            whole.update(piece)
    return whole.hexdigest()


def read_header(path: Path, max_bytes: int = MAX_HEADER_BYTES) -> tuple[dict[str, Entry], dict]:
    """The tensors' entries and the metadata, checked against the size of the file.

    Allocates no more than the header. Raises UserError for anything that is not a sound file:
    a name that is no regular file, an oversized, broken or nested header, a tensor named twice, an
    unknown dtype, an absurd shape, offsets with gaps or beyond the end.
    """
    size = _regular_size(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(max_bytes, size - 8):
            raise UserError(f"{path}: not a safetensors file (a header of {length} bytes)")
        raw = file.read(length)
    try:
        header = json.loads(raw, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a safetensors file: {error}") from None
    if not isinstance(header, dict):
        raise UserError(f"{path}: not a safetensors file: its header is no mapping")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise UserError(f"{path}: not a safetensors file: its metadata is no mapping")
    entries = {name: _entry(path, name, content) for name, content in header.items()}
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].begin):
        if entry.begin != position:
            raise UserError(f"{path}: tensor {name!r} does not begin where the last one ends")
        position = entry.end
    if position != size - 8 - length:
        raise UserError(
            f"{path}: {size - 8 - length} bytes of tensors where the header says {position}"
        )
    return entries, metadata


def read_tensors(path: Path, entries: dict[str, Entry]) -> dict[str, torch.Tensor]:
    """The tensors whose entries `read_header` gave and the caller found acceptable, on the CPU."""
    tensors = {}
    with open(path, "rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        for name, entry in entries.items():
            tensor = torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
            file.seek(start + entry.begin)
            if file.readinto(_bytes_of(tensor)) != entry.end - entry.begin:
                raise UserError(f"{path}: ends within tensor {name!r}")
            tensors[name] = tensor
    return tensors


def is_whole(path: Path, metadata: dict) -> bool:
    """Whether the file still is what was written, by the sha256 in its own metadata."""
    digest = metadata.get("sha256")
    if not isinstance(digest, str) or len(digest) != len(BLANK):
        return False
    content = hashlib.sha256()
    with open(path, "rb") as file:
        prefix = file.read(8)
        header = file.read(int.from_bytes(prefix, "little"))
        content.update(prefix + header.replace(digest.encode(), BLANK.encode(), 1))
        while piece := file.read(PIECE_BYTES):
            content.update(piece)
    return content.hexdigest() == digest


def _header(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    """Length and JSON header; padded with spaces so that the tensors begin on 8 bytes."""
    header: dict = {"__metadata__": dict(sorted(metadata.items()))}
    position = 0
    for name in _in_order(tensors):
        tensor = tensors[name]
        end = position + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _in_order(tensors: dict[str, torch.Tensor]) -> list[str]:
    """Wide dtypes first, so that each tensor stays aligned; then by name."""
    return sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))


def _pieces(tensors: dict[str, torch.Tensor]) -> Iterator[memoryview]:
    for name in _in_order(tensors):
        yield _bytes_of(tensors[name].detach().to("cpu").contiguous())


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous CPU tensor, without a copy."""
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())


def _regular_size(path: Path) -> int:
    try:
        status = os.stat(path)
    except OSError as error:
        raise UserError(f"{path}: not readable: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for ever
        raise UserError(f"{path}: not a regular file")
    return status.st_size


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name stands twice in its header")
    return names


def _entry(path: Path, name: str, content: object) -> Entry:
    """One tensor's entry; UserError unless dtype, shape and offsets agree with each other."""
    sound = isinstance(content, dict) and content.keys() == {"dtype", "shape", "data_offsets"}
    if not sound or content["dtype"] not in BYTES:
        kind = content.get("dtype") if isinstance(content, dict) else None
        raise UserError(f"{path}: tensor {name!r}: not float32 (dtype {kind!r})")
    shape, offsets = content["shape"], content["data_offsets"]
    if not _whole_numbers(shape) or len(shape) > MAX_DIMENSIONS:
        raise UserError(f"{path}: tensor {name!r}: not a shape: {str(shape)[:80]}")
    if not _whole_numbers(offsets) or len(offsets) != 2:
        raise UserError(f"{path}: tensor {name!r}: not offsets: {str(offsets)[:80]}")
    if offsets[1] - offsets[0] != math.prod(shape) * BYTES[content["dtype"]]:
        raise UserError(f"{path}: tensor {name!r}: shape {shape} does not fit its offsets")
    return Entry(content["dtype"], tuple(shape), offsets[0], offsets[1])


def _whole_numbers(values: object) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < 2**48 for value in values
    )
