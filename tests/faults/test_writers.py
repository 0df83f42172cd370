"""Many processes that write at once: nothing is lost, and one artefact has one maker."""

import asyncio
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import warm
import zarr
from crash_cases import WRITERS, block_of, open_store, publish_slowly, write_one
from slideunet import store
from slideunet.shard_store import Shard

# How the others end: another job has taken over, or was through first.
SUPERSEDED = 3


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.faults)])
def test_no_shard_of_many_writers_is_lost(server, tmp_path, figure, rounds):
    lost = 0
    for number in range(rounds):
        folder = tmp_path / str(number)
        shards = open_store(folder)
        runs = [
            warm.Run(write_one, folder, number, writer, log=tmp_path / "log")
            for writer in range(WRITERS)
        ]
        assert [run.join() for run in runs] == [0] * WRITERS
        lost += WRITERS - len(shards.resume())
        for writer in range(WRITERS):
            found = shards.read(Shard(0, *divmod(writer, 8)))
            expected = block_of(number, writer)
            lost += not np.array_equal(found.probabilities, expected.probabilities)
            lost += not np.array_equal(found.classes, expected.classes)
    asked = rounds * WRITERS
    figure(f"{WRITERS} writers x {rounds} rounds, blocks kept", asked, asked, asked - lost)


def race(folder: Path, log: Path, prepare=()) -> Counter:
    """All writers make the same artefact; how they ended."""
    folder.mkdir()
    start = time.time() + 0.5
    runs = [
        warm.Run(publish_slowly, folder, start, SUPERSEDED, log=log, prepare=prepare)
        for _ in range(WRITERS)
    ]
    return Counter(run.join() for run in runs)


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.faults)])
def test_one_artefact_of_many_makers_is_whole(server, tmp_path, figure, rounds):
    whole = 0
    for number in range(rounds):
        folder, log = tmp_path / str(number), tmp_path / f"log-{number}"
        ends = race(folder, log)
        assert set(ends) <= {0, SUPERSEDED}, f"{ends}\n{log.read_text()[-2000:]}"
        assert ends[0] >= 1
        whole += store.find_damage(folder / "a.json") == [] and not list(folder.glob(".*"))
    figure(f"{WRITERS} makers of one artefact x {rounds} rounds, whole", rounds, rounds, whole)


class Unowned:
    """Takes the owner's token away, in the process that makes the artefact."""

    def __call__(self) -> None:
        store.Work.check_owner = lambda work: None


# A race that is not lost in one round is run again: without the token it is lost sooner or later.
ROUNDS = 20


def test_makers_without_a_token_disturb_each_other(server, tmp_path):
    """The mutation check: the same makers, none of which asks whether it has been taken over."""
    for number in range(ROUNDS):
        ends = race(tmp_path / str(number), tmp_path / f"log-{number}", [Unowned()])
        if not set(ends) <= {0, SUPERSEDED}:
            return
    raise AssertionError(f"nobody was disturbed in {ROUNDS} rounds, last {ends}")


class AllRead:
    """Holds each write of a shard back until every writer has read what it puts its chunk into."""

    def __init__(self, folder: Path, writer: int):
        self.folder, self.writer = folder, writer

    def __call__(self) -> None:
        write = zarr.storage.LocalStore.set
        deadline = time.monotonic() + 60

        async def write_together(store, key, value):
            (self.folder / str(self.writer)).touch()
            while len(list(self.folder.iterdir())) < WRITERS and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            await write(store, key, value)

        zarr.storage.LocalStore.set = write_together


def share_a_shard(path: Path, writer: int) -> None:
    """A chunk of its own in a shard that all writers share: what the store never does."""
    row, column = divmod(writer, 8)
    array = zarr.open_array(store=str(path), mode="r+")
    array[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = writer + 1


def test_writers_that_share_a_shard_lose_blocks(server, tmp_path):
    """The mutation check: the same writers without a shard for each."""
    path, read = tmp_path / "shared", tmp_path / "read"
    read.mkdir()
    zarr.create_array(
        store=str(path), shape=(64, 128), chunks=(16, 16), shards=(64, 128), dtype="u1"
    )
    log = tmp_path / "log"
    runs = [
        warm.Run(share_a_shard, path, writer, log=log, prepare=[AllRead(read, writer)])
        for writer in range(WRITERS)
    ]
    assert [run.join() for run in runs] == [0] * WRITERS, log.read_text()[-2000:]
    found = zarr.open_array(store=str(path), mode="r")[::16, ::16].ravel()
    assert np.count_nonzero(found) == 1
