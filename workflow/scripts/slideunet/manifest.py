"""Manifests: the JSON that says what an artefact's files must be; read, checked, compared.

How they are made and published: store.py.
"""

import hashlib
import json
import stat
from pathlib import Path

from slideunet.errors import UserError


def read_manifest(manifest: Path) -> dict:
    """The manifest's content; UserError where it is missing, no manifest, or not as written."""
    try:
        raw = Path(manifest).read_bytes()
        content = json.loads(raw)
        if not {"kind", "status", "files"} <= content.keys():
            raise UserError(f"{manifest}: not a manifest of this workflow")
        written = sealed(content)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{manifest}: not readable as a manifest: {error}") from None
    if raw != written:
        raise UserError(
            f"{manifest}: not as it was written (checksum differs): remove it and call again to "
            "make it anew"
        )
    return content


def sealed(content: dict) -> bytes:
    """A manifest's bytes, with the checksum that `read_manifest` asks for."""
    return to_json({**content, "checksum": checksum_of(content)})


def find_damage(manifest: Path, all_bytes: bool = True) -> list[str]:
    """Each file of the artefact that is missing, has another size or other bytes: one line each."""
    damage = []
    for entry in read_manifest(manifest)["files"]:
        path = Path(manifest).parent / entry["path"]
        try:
            status = path.stat()
        except OSError:
            damage.append(f"{path}: missing")
            continue
        size = status.st_size
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
            damage.append(f"{path}: no file any more")
        elif size != entry["size"]:
            damage.append(f"{path}: {size} bytes instead of {entry['size']}")
        elif all_bytes and sha256_of_file(path) != entry["sha256"]:
            damage.append(f"{path}: content is not what was written (checksum differs)")
    return damage


def to_json(content: dict) -> bytes:
    """The one way JSON is written here: sorted keys, no time, a newline at the end.

    Raises ValueError for NaN and infinity, which are no JSON.
    """
    return (json.dumps(content, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def checksum_of(manifest: dict) -> str:
    """The checksum of a manifest's content, whatever its field `checksum` says."""
    return sha256_of(to_json({k: v for k, v in manifest.items() if k != "checksum"}))


def sha256_of(content: bytes) -> str:
    """Hexadecimal sha256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
