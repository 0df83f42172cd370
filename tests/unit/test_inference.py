"""Slides through the whole of inference, in memory: exact, byte-identical, resumable."""

import dataclasses
import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from memory_slide import (
    SETTINGS,
    MemorySlide,
    arrays,
    digest,
    members_of,
    network,
    noise,
    request_for,
    scaling,
    segment,
    whole,
)
from slideunet import engine, segmentation
from slideunet.errors import SlideError, UserError
from slideunet.geometry import Window
from slideunet.network import DoubleConvolution
from slideunet.shard_store import ShardStore

SIZE = 150, 210  # 3 x 4 shards of 64 px


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return noise(*SIZE)


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


def test_unreadable_tiles_are_masked_and_their_area_told(tmp_path, pixels):
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
    pixels[0, 90, 90] = np.nan  # in the context of no other shard
    with pytest.raises(SlideError, match="memory: the network's scores are not finite") as caught:
        segment(tmp_path, pixels)
    assert caught.value.__notes__ == ["in the 36 x 36 px at y=64 x=64"]
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
    assert len(asked) >= sum(isinstance(m, DoubleConvolution) for m in made.modules()) == 5


def test_a_slide_is_segmented_without_what_takes_long_to_import(tmp_path):
    """What each of thousands of jobs would pay for: dask.distributed, scipy, skimage, pandas."""
    code = (
        "import sys; from pathlib import Path; import slideunet.stages.segment\n"
        "from memory_slide import noise, segment\n"
        f"segment(Path({str(tmp_path)!r}), noise(64, 64))\n"
        "slow = {'distributed', 'scipy', 'skimage', 'pandas', 'numba', 'matplotlib'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"


def test_rounding_and_ties():
    probabilities = torch.tensor([[0.5, 0.2, 0.4], [0.5, 0.4, 0.4], [0.0, 0.4, 0.2]])[:, None]
    assert engine.likeliest(probabilities).tolist() == [[0, 1, 0]]
    exact = torch.tensor([0.0, 0.5 / 255, 0.499 / 255, 1.0, 254.5 / 255])
    assert engine.as_bytes(exact).tolist() == [0, 1, 0, 255, 255]


@pytest.mark.parametrize("classes", [1, 2, 3, 7])
def test_the_likeliest_class_is_the_first_of_the_largest(classes):
    """What argmax says, of few values: ties are many."""
    values = np.random.default_rng(classes).integers(0, 4, (classes, 40, 50)).astype(np.float32)
    found = engine.likeliest(torch.from_numpy(values))
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found.numpy(), values.argmax(0))


def test_settings_of_the_tests_are_those_of_the_config(project):
    import yaml

    known = yaml.safe_load((project / "config.yaml").read_text())["segment"]
    assert SETTINGS.keys() <= known.keys()
