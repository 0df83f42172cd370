"""What dies at each of its steps: imported before the fork, so without pytest."""

import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from memory_slide import noise
from memory_slide import segment as segment_pixels
from slideunet import store
from slideunet.ngff import create_segmentation
from slideunet.shard_store import NAME, Block, Shard, ShardStore

BLOCKS = 4


def build(work) -> tuple[list[str], dict]:
    """Two files and a folder, written as stages write them: without flushing."""
    folder = work.folder / "data"
    folder.mkdir(exist_ok=True)
    for number in range(BLOCKS):
        (folder / f"{number}.bin").write_bytes(bytes([number]) * 3000)
    (work.folder / "table.tsv").write_text("a\tb\n")
    return ["data", "table.tsv"], {"blocks": BLOCKS}


def older(work) -> tuple[list[str], dict]:
    """Another artefact of the same names, made earlier."""
    (work.folder / "data").mkdir(exist_ok=True)
    (work.folder / "data" / "old.bin").write_bytes(b"old")
    (work.folder / "table.tsv").write_text("old\n")
    return ["data", "table.tsv"], {}


def publish(out: Path, build=build, settings: int = 1) -> None:
    """One artefact, with the code of every stage."""
    store.make(
        out / "a.json", build, kind="a", settings={"n": settings}, code={}, inputs={}
    )  # fmt: skip


def replace_earlier(out: Path) -> None:
    """An artefact where an earlier one of other settings stands."""
    if not (out / "begun").exists():
        publish(out, older, settings=0)
        (out / "begun").touch()
    publish(out)


def segmented(work) -> tuple[list[str], dict]:
    """A segmentation of 2 x 2 shards and its pyramid, without a decoder."""
    return [NAME], segment_pixels(work.folder, noise(100, 120))


def write_shards(out: Path) -> None:
    """An artefact that goes on from its whole shards."""
    publish(out, segmented)


def write_by(call: str, path: Path) -> None:
    """Ten bytes by one system call, and one more."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    if call == "write":
        os.write(descriptor, b"0123456789")
    elif call == "pwrite":
        os.pwrite(descriptor, b"0123456789", 0)
    else:
        os.writev(descriptor, [b"01234", b"56789"])
    os.write(descriptor, b"!")


WRITERS, SHARD_PX = 32, 64


def open_store(folder: Path) -> ShardStore:
    """A store of 4 x 8 shards, one for each writer."""
    folder.mkdir(exist_ok=True)
    if not (folder / NAME).exists():
        create_segmentation(
            folder / NAME, classes=["background", "nucleus"],
            image_yx=(4 * SHARD_PX, 8 * SHARD_PX), pixel_um=None, shard_px=SHARD_PX,
            chunk_px=32, version="0.5",
        )  # fmt: skip
    return ShardStore(folder, SHARD_PX, "0.5")


def block_of(number: int, writer: int) -> Block:
    """What a writer writes in one round."""
    random = np.random.default_rng((number, writer))
    values = random.integers(0, 256, (3, SHARD_PX, SHARD_PX), dtype=np.uint8)
    return Block(values[:2], values[2])


def write_one(folder: Path, number: int, writer: int) -> None:
    """One writer's shard, with its marker."""
    shards = open_store(folder)
    shard = Shard(0, *divmod(writer, 8))
    shards.mark(shard, shards.write(shard, block_of(number, writer)), {})


def publish_slowly(out: Path, start: float, superseded: int) -> None:
    """Make the artefact from `start` on; exit with `superseded` where others were faster."""

    def slowly(work) -> tuple[list[str], dict]:
        found = build(work)
        time.sleep(0.001 * (os.getpid() % 50))
        work.check_owner()
        return found

    time.sleep(max(0, start - time.time()))
    try:
        publish(out, slowly)
    except store.Superseded:
        sys.exit(superseded)


class WriteInPlace:
    """Takes away that files are written aside, in the process under test."""

    def __call__(self) -> None:
        from slideunet import store, tensorfile

        def write_file(path: Path, data: bytes) -> None:
            with open(path, "wb") as file:
                file.write(data)

        store.write_file = write_file
        store.Work.finish = self.manifest_first
        store.Work.staged = lambda work: None
        tensorfile.is_whole = lambda path, metadata: True

    @staticmethod
    def manifest_first(work, manifest: dict) -> dict:
        work.manifest.write_bytes(store.to_json(manifest))
        for name in manifest["names"]:
            shutil.rmtree(work.manifest.parent / name, ignore_errors=True)
            (work.folder / name).replace(work.manifest.parent / name)
        shutil.rmtree(work.folder)
        return manifest
