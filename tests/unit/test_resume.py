"""The same bytes however a slide is computed: workers, order, parts, kills, damage."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from memory_slide import MemorySlide, digest, noise, segment
from slideunet import parts
from slideunet.errors import UserError
from slideunet.job import Stopped
from slideunet.shard_store import NAME, Shard, ShardStore
from slideunet.store import Superseded, make

SIZE = 150, 210  # 3 x 4 shards of 64 px


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return noise(*SIZE)


@pytest.fixture(scope="module")
def calm(pixels, tmp_path_factory) -> tuple[str, dict]:
    """An uninterrupted run in one thread: the digest of its store, and its facts."""
    folder = tmp_path_factory.mktemp("calm")
    facts = segment(folder, pixels)
    return digest(folder), facts


@pytest.mark.parametrize("threads", [2, 5])
def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path, pixels, calm, threads):
    facts = segment(tmp_path, pixels, settings={"threads": threads})
    assert (digest(tmp_path), facts) == calm


def test_bytes_do_not_depend_on_the_order(tmp_path, pixels, calm):
    """Rows of shards out of order, the pyramid at the end, from what was read back."""
    for row in (2, 0, 1):
        segment(tmp_path, pixels, part=(row, 3))
    facts = segment(tmp_path, pixels)
    assert (digest(tmp_path), facts) == calm


class Interrupt:
    """A stop that raises at its n-th question."""

    def __init__(self, after: int):
        self.left, self.lock = after, threading.Lock()

    def __call__(self) -> None:
        with self.lock:
            self.left -= 1
            if self.left < 0:
                raise Stopped("told to")


@pytest.mark.parametrize("after", [0, 40, 150, 300])
def test_a_stopped_job_goes_on_to_the_same_bytes(tmp_path, pixels, calm, after):
    with pytest.raises(Stopped):
        segment(tmp_path, pixels, settings={"threads": 2}, stop=Interrupt(after))
    whole_before = ShardStore(tmp_path, 64, "0.5").resume()
    slide = MemorySlide(pixels)
    facts = segment(tmp_path, pixels, slide=slide)
    assert (digest(tmp_path), facts) == calm
    shards = {(0, row, column) for row in range(3) for column in range(4)}
    assert len(slide.reads) == len(shards - set(whole_before))
    if after == 300:
        assert whole_before


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "no marker", "stray"])
def test_damaged_shards_are_made_again(tmp_path, pixels, calm, damage):
    with pytest.raises(Stopped):
        segment(tmp_path, pixels, stop=Interrupt(260))
    done = sorted(p.name for p in (tmp_path / "markers").iterdir())
    assert len(done) > 3
    store = ShardStore(tmp_path, 64, "0.5")
    shard = Shard(*map(int, done[1].split(".")))
    file = tmp_path / NAME / store.files(shard)[1]
    if damage == "flip":
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 4
        file.write_bytes(content)
    elif damage == "truncate":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "delete":
        file.unlink()
    elif damage == "no marker":
        (tmp_path / "markers" / shard.key).unlink()
    else:
        file.with_suffix(".0123abcd.partial").write_bytes(b"cut off")
    facts = segment(tmp_path, pixels)
    assert (digest(tmp_path), facts) == calm


def test_a_killed_job_goes_on_to_the_same_bytes(tmp_path, calm):
    """SIGKILL while shards are written, three times over, then to the end."""
    command = [sys.executable, __file__, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for shards in (3, 9):
        child = subprocess.Popen([*command, str(shards)], env=environment)
        assert child.wait() == -signal.SIGKILL
        assert len(list((tmp_path / "markers").iterdir())) >= shards - 2
    facts = segment(tmp_path, noise(*SIZE))
    assert (digest(tmp_path), facts) == calm


def killed_at(folder: str, shards: str) -> None:
    """In a child: segment, and die at the n-th write, one of its two files being half there."""
    write = ShardStore.write
    left = int(shards)

    def die(self, shard, block):
        nonlocal left
        left -= 1
        if left == 0:
            found = write(self, shard, block)
            file = self.path / next(iter(found))
            file.write_bytes(file.read_bytes()[:20])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(self, shard, block)

    ShardStore.write = die
    segment(Path(folder), noise(*SIZE))


@pytest.mark.parametrize("n_parts", [1, 2, 5])
def test_parts_give_the_same_bytes(tmp_path, pixels, calm, n_parts):
    manifests = [part_of(tmp_path, pixels, part, n_parts) for part in range(n_parts)]
    folder = tmp_path / "joined"
    folder.mkdir()
    slide = MemorySlide(pixels)
    run = parts.adopt(ShardStore(folder, 64, "0.5"), manifests)
    facts = segment(folder, pixels, slide=slide, run=run)
    assert (digest(folder), facts) == calm
    assert not slide.reads


def part_of(folder: Path, pixels, part: int, n_parts: int, tile_px: int = 32) -> Path:
    """An artefact with one part's shards."""
    name = f"{part}-of-{n_parts}.ome.zarr"

    def build(work):
        more = {"part": (part, n_parts), "name": name, "settings": {"tile_px": tile_px}}
        facts = segment(work.folder, pixels, check_owner=work.check_owner, **more)
        store = ShardStore(work.folder, 64, "0.5", name)
        return [name], {**facts, "shards": parts.shards_of_part(store, (part, n_parts))}

    manifest = folder / f"{part}-of-{n_parts}.json"
    make(manifest, build, kind="segment_part", settings={}, code={}, inputs={})
    return manifest


def test_a_part_of_larger_tiles_is_computed_anew(tmp_path, pixels, calm):
    """One part ran out of memory and took smaller tiles: the slide is that of the smaller ones."""
    manifests = [
        part_of(tmp_path, pixels, part, 2, tile_px) for part, tile_px in ((0, 32), (1, 64))
    ]
    folder = tmp_path / "joined"
    folder.mkdir()
    run = parts.adopt(ShardStore(folder, 64, "0.5"), manifests)
    facts = segment(folder, pixels, run=run)
    assert (digest(folder), facts) == calm


def test_a_damaged_part_is_refused(tmp_path, pixels):
    manifest = part_of(tmp_path, pixels, 0, 1)
    file = next((tmp_path / "0-of-1.ome.zarr" / "0" / "c").rglob("0"))
    file = next(p for p in sorted(file.parent.rglob("*")) if p.is_file())
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(UserError, match="bytes instead of"):
        parts.adopt(ShardStore(tmp_path / "joined", 64, "0.5"), [manifest])


def test_a_resumed_job_keeps_the_tile_it_began_with(tmp_path, pixels):
    """More memory at the second attempt, another `auto`: half a slide of each would not do."""
    automatic = {"tile_px": "auto", "threads": 1}
    with pytest.raises(Stopped):
        segment(tmp_path, pixels, stop=Interrupt(200))
    facts = segment(tmp_path, pixels, settings=automatic, mem_mb=50000)
    assert facts["tile_px"] == 32


def test_a_job_that_was_taken_over_writes_nothing_more(tmp_path, pixels):
    asked = []

    def check_owner():
        asked.append(1)
        if len(asked) > 3:
            raise Superseded("taken over")

    with pytest.raises(Superseded):
        segment(tmp_path, pixels, check_owner=check_owner)
    assert len(list((tmp_path / "markers").iterdir())) == 3


if __name__ == "__main__":
    killed_at(*sys.argv[1:])
