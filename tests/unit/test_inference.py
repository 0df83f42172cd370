"""Slides through the whole of inference, in memory: exact, byte-identical, resumable."""

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from memory_slide import (
    SETTINGS,
    MemorySlide,
    members_of,
    network,
    noise,
    request_for,
    scaling,
    segment,
    whole,
)
from slideunet import engine, parts, segmentation
from slideunet.errors import SlideError, UserError
from slideunet.geometry import Window
from slideunet.job import Stopped
from slideunet.shard_store import NAME, Shard, ShardStore
from slideunet.store import Superseded, make

SIZE = 150, 210  # 3 x 4 shards of 64 px


def arrays(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and class map of level 0."""
    group = zarr.open_group(str(folder / NAME), mode="r")
    return group["0"][...], group["labels/classes/0"][...]


def digest(folder: Path, name: str = NAME) -> str:
    """Of all files of a store: names and bytes."""
    root = folder / name
    sha = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        sha.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return sha.hexdigest()


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return noise(*SIZE)


@pytest.fixture(scope="module")
def calm(pixels, tmp_path_factory) -> tuple[str, dict]:
    """An uninterrupted run in one thread: the digest of its store, and its facts."""
    folder = tmp_path_factory.mktemp("calm")
    facts = segment(folder, pixels)
    return digest(folder), facts


def assert_stored(folder: Path, expected: np.ndarray) -> None:
    """The store holds these probabilities (float32) to a rounding step, and their classes."""
    found, classes = arrays(folder)
    assert np.abs(found - 255 * expected).max() <= 0.5 + 255 * 1e-5 + 1e-3
    first, second = np.sort(expected, axis=0)[[-1, -2]]
    clear = first - second > 2e-5
    assert clear.mean() > 0.95
    assert (classes == expected.argmax(0))[clear].all()


@pytest.mark.parametrize(
    ("dtype", "channels", "classes", "tile_px"),
    [("uint8", 3, 2, 20), ("uint16", 1, 3, 64), ("float32", 2, 2, 48), ("uint8", 1, 2, 44)],
)
def test_tiled_equals_whole(tmp_path, dtype, channels, classes, tile_px):
    pixels = noise(97, 131, channels, dtype)
    segment(tmp_path, pixels, classes=classes, settings={"tile_px": tile_px})
    assert_stored(tmp_path, whole(pixels, depth=2, classes=classes))


def test_a_slide_smaller_than_a_tile_and_one_pixel_high(tmp_path):
    for number, shape in enumerate([(5, 9), (1, 70)]):
        pixels = noise(*shape)
        segment(tmp_path / str(number), pixels)
        assert_stored(tmp_path / str(number), whole(pixels, depth=2))


def test_an_ensemble_is_the_mean_of_its_probabilities(tmp_path):
    pixels = noise(70, 90)
    segment(tmp_path, pixels, seeds=(0, 1, 2))
    mean = sum(whole(pixels, depth=2, seed=seed) for seed in (0, 1, 2)) / 3
    assert_stored(tmp_path, mean)


def test_averaging_does_not_depend_on_the_tiles(tmp_path):
    pixels = noise(70, 90)
    for tile_px in (16, 36):
        settings = {"averaging": "all", "tile_px": tile_px}
        segment(tmp_path / str(tile_px), pixels, depth=2, settings=settings)
    (a, _), (b, _) = arrays(tmp_path / "16"), arrays(tmp_path / "36")
    assert np.abs(a.astype(int) - b).max() <= 1
    plain = 255 * whole(pixels, depth=2)
    assert np.abs(a - plain).max() > 10  # it is not the single view


def test_each_pixel_is_written_once_by_one_task(tmp_path, pixels, monkeypatch):
    written = {}
    write = ShardStore.write

    def count(self, shard, block):
        window = self.window(shard)
        shape = self.arrays[shard.level][1].shape
        counts = written.setdefault(shard.level, np.zeros(shape, int))
        counts[window.slices()] += 1
        return write(self, shard, block)

    monkeypatch.setattr(ShardStore, "write", count)
    facts = segment(tmp_path, pixels, settings={"threads": 2})
    assert [list(counts.shape) for _, counts in sorted(written.items())] == facts["level_shapes"]
    assert all((counts == 1).all() for counts in written.values())


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


def test_two_distributed_processes_give_the_same_bytes(tmp_path, pixels, calm):
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        settings = {"scheduler": cluster.scheduler_address}
        facts = segment(tmp_path, pixels, settings=settings)
    assert (digest(tmp_path), facts) == calm


class Tissue:
    """Tissue on a disc, asked with windows."""

    def __init__(self):
        y, x = np.indices(SIZE)
        self.mask = (y - 40) ** 2 + (x - 60) ** 2 < 30**2
        self.mask[120, 150] = True

    def __call__(self, window: Window) -> bool:
        return bool(self.mask[window.slices()].any())


@pytest.mark.parametrize("tile_px", [16, 32, 64])
def test_nothing_is_read_without_tissue(tmp_path, pixels, tile_px):
    tissue, slide = Tissue(), MemorySlide(pixels)
    facts = segment(tmp_path, pixels, slide=slide, has_tissue=tissue, settings={"tile_px": tile_px})
    wanted = np.zeros(SIZE, bool)
    for y in range(0, SIZE[0], 32):
        for x in range(0, SIZE[1], 32):
            square = np.s_[y : y + 32, x : x + 32]
            wanted[square] = tissue.mask[square].any()
    near = np.zeros(SIZE, bool)
    for y, x in np.argwhere(wanted):
        near[max(0, y - 20) : y + 21, max(0, x - 20) : x + 21] = True  # context at depth 2: 20 px
    assert not (slide.touched() > 0)[~near].any()
    assert facts["computed_px"] == wanted.sum()
    assert facts["skipped_px"] == (~wanted).sum()
    found, classes = arrays(tmp_path)
    expected = whole(pixels, depth=2)
    assert np.abs(found - 255 * expected)[:, wanted].max() <= 0.51
    assert not found[:, ~wanted].any() and not classes[~wanted].any()


def test_a_shard_is_read_once(tmp_path, pixels):
    slide = MemorySlide(pixels)
    segment(tmp_path, pixels, slide=slide)
    assert len(slide.reads) == 12


def test_a_slide_without_tissue(tmp_path, pixels):
    slide = MemorySlide(pixels)
    facts = segment(tmp_path, pixels, slide=slide, has_tissue=lambda window: False)
    assert not slide.reads and facts["computed_px"] == 0
    assert not arrays(tmp_path)[0].any()


def test_unreadable_tiles_are_masked_and_their_area_told(tmp_path, pixels, calm):
    bad = [Window(50, 100, 30, 40), Window(60, 100, 30, 40)]
    facts = segment(tmp_path, pixels, bad=bad)
    masked = np.zeros(SIZE, bool)
    masked[50:90, 100:140] = True
    assert facts["masked_px"] == masked.sum()
    found, classes = arrays(tmp_path)
    assert (classes[masked] == 255).all() and not found[:, masked].any()
    assert (classes[~masked] < 2).all()


def test_scores_that_are_not_finite_stop_the_slide(tmp_path):
    pixels = noise(100, 100, dtype="float32")
    pixels[0, 70, 80] = np.nan
    with pytest.raises(SlideError, match="memory: the network's scores at y=64 x=64"):
        segment(tmp_path, pixels)
    assert not (tmp_path / "markers" / "0.1.1").exists()


def test_a_slide_of_other_channels_is_refused(tmp_path, pixels):
    wrong = dataclasses.replace(
        request_for(pixels),
        open_members=partial(members_of, 3, scaling(noise(1, 1, 3)), 2, 2, (0,)),
    )
    with pytest.raises(SlideError, match=r"memory: has 1 channels \(channel 0\), .* on 3"):
        segmentation.segment_slide(wrong, tmp_path)


@pytest.mark.parametrize("key", ["tile_px", "chunk_px", "shard_px"])
def test_sizes_off_the_pooling_grid_are_refused(tmp_path, pixels, key):
    with pytest.raises(UserError, match=f"segment.{key}: a tile step of 30 px is no multiple"):
        segment(tmp_path, pixels, settings={key: 30})


def test_out_of_memory_shrinks_the_tile_and_says_so(tmp_path, pixels, monkeypatch):
    scores = engine.tile_scores

    def limited(net, seen):
        if seen.shape[1] * seen.shape[2] > 90 * 90:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return scores(net, seen)

    segment(tmp_path / "small", pixels, settings={"tile_px": 32})
    monkeypatch.setattr(engine, "tile_scores", limited)
    facts = segment(tmp_path / "shrunk", pixels, settings={"tile_px": 64, "threads": 2})
    assert facts["tile_px"] == 32 and facts["too_large_px"] == [64]
    assert digest(tmp_path / "shrunk") == digest(tmp_path / "small")


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


def test_shards_in_flight_are_bounded(tmp_path):
    """Reading runs ahead by one shard at most, whatever the number of shards."""
    pixels = noise(64, 64 * 12)
    state, peak, lock = [0], [0], threading.Lock()

    class Slide(MemorySlide):
        def read(self, *window):
            with lock:
                state[0] += 1
                peak[0] = max(peak[0], state[0])
            return super().read(*window)

    mark = ShardStore.mark

    def marked(self, shard, files, found):
        mark(self, shard, files, found)
        if shard.level == 0:
            with lock:
                state[0] -= 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShardStore, "mark", marked)
        segment(tmp_path, pixels, slide=Slide(pixels))
    assert state[0] == 0 and peak[0] == 2


def test_a_stop_is_heard_between_layers(pixels):
    """A tile may take a minute on a CPU."""
    made = network(2)
    asked = []
    run = engine.Engine(
        MemorySlide(pixels),
        [engine.Member(made, scaling(pixels))],
        device=torch.device("cpu"),
        precision=torch.float32,
    )
    run.stop = lambda: asked.append(1)
    run.predict(Window(0, 0, 32, 32), [Window(0, 0, 32, 32)])
    assert len(asked) >= sum(isinstance(m, torch.nn.Conv2d) for m in made.modules())


def test_rounding_and_ties():
    probabilities = torch.tensor([[0.5, 0.2, 0.4], [0.5, 0.4, 0.4], [0.0, 0.4, 0.2]])[:, None]
    assert engine.likeliest(probabilities).tolist() == [[0, 1, 0]]
    exact = torch.tensor([0.0, 0.5 / 255, 0.499 / 255, 1.0, 254.5 / 255])
    assert engine.as_bytes(exact).tolist() == [0, 1, 0, 255, 255]


def test_uint16_is_read_as_unsigned():
    values = torch.from_numpy(np.array([[[0, 40000, 65535]]], np.uint16))
    assert engine.as_float(values).tolist() == [[[0.0, 40000.0, 65535.0]]]
    pixels = engine.Pixels(values, 0, 0)
    mirrored = engine.crop_mirrored(pixels, Window(0, -1, 1, 5), (1, 3))
    assert engine.as_float(mirrored).tolist() == [[[40000.0, 0.0, 40000.0, 65535.0, 40000.0]]]


def test_settings_of_the_tests_are_those_of_the_config(project):
    import yaml

    known = yaml.safe_load((project / "config.yaml").read_text())["segment"]
    assert SETTINGS.keys() <= known.keys()


if __name__ == "__main__":
    killed_at(*sys.argv[1:])
