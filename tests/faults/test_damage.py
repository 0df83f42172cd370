"""Flips, truncations, deletions of every artefact: all of them are found, and by name."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from slideunet import manifest as manifests
from slideunet.verification import verify
from small_archive import STAGES, UNLISTED

# Not listed in a manifest: source.json names the slide's place, and says so itself when damaged.
NOT_CHECKED = {*UNLISTED, "source.json"}
SEED = 11


def flip(data: bytes, chance: random.Random) -> bytes:
    """One bit."""
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def cut(data: bytes, chance: random.Random) -> bytes:
    """The end missing."""
    return data[: chance.randrange(len(data))]


def fill(data: bytes, chance: random.Random) -> bytes:
    """Zeros from somewhere on, as after a power loss."""
    at = chance.randrange(len(data))
    rest = data[at:]
    return data[:at] + (bytes(len(rest)) if any(rest) else b"\1" * len(rest))


def delete(data: bytes, chance: random.Random) -> None:
    """The file gone."""


KINDS: list[Callable] = [flip, flip, flip, flip, flip, flip, cut, fill, delete]


def files_of(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not NOT_CHECKED & set(path.relative_to(folder).parts)
    ]


def found(manifest: Path, path: Path) -> bool:
    """Whether verify names the file."""
    return any(line.startswith(f"{path}: ") for line in verify(manifest))


def damage_all(archive, stage: str, folder: Path, count: int) -> tuple[int, int]:
    """Damage one file after the other, `count` times: how many were damaged, and found."""
    chance = random.Random(f"{SEED} {stage}")
    out = folder / stage
    shutil.copytree(archive.folder / stage, out)
    manifest = next(p for p in out.glob("*.json") if p.name not in NOT_CHECKED)
    assert verify(manifest) == []
    paths = files_of(out)
    hits = 0
    for number in range(count):
        path = paths[number % len(paths)]
        data = path.read_bytes()
        kind = KINDS[number // len(paths) % len(KINDS)] if data else delete
        damaged = kind(data, chance)
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
        hits += found(manifest, path)
        path.write_bytes(data)
    assert verify(manifest) == []
    return count, hits


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("count", [40, pytest.param(650, marks=pytest.mark.faults)])
def test_each_damage_is_found_and_named(archive, tmp_path, figure, stage, count):
    done, hits = damage_all(archive, stage, tmp_path, count)
    print(f"{stage}: seed {SEED}")
    figure(f"flips, truncations, deletions of {stage}, found by verify", count, done, hits)


def test_without_checksums_flips_pass(archive, tmp_path, monkeypatch):
    """The same procedure on sizes alone."""
    monkeypatch.setattr(
        "slideunet.verification.find_damage",
        lambda manifest: manifests.find_damage(manifest, all_bytes=False),
    )
    done, hits = damage_all(archive, "ingest", tmp_path, 90)
    assert hits < done
