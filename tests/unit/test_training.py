"""The training: its arithmetic against references, its repeatability, its failures."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import slideunet
import torch
import unet_reference
from slideunet import checkpoints
from slideunet.errors import UserError
from slideunet.loss import weighted_cross_entropy
from slideunet.optimisation import Average, learning_rate
from slideunet.sampling import Sampler
from slideunet.tensorfile import read_header
from slideunet.training import Training, train
from slideunet.training_data import AnnotatedImage

CLASS_WEIGHTS = [0.4, 1.0]
NO_AUGMENTATION = {
    "elastic_grid": 3, "elastic_sigma_px": 0, "rotation_deg": 0, "flips": False,
    "brightness": 0, "contrast": 0, "gamma": 0, "noise": 0,
}  # fmt: skip
AUGMENTATION = {
    "elastic_grid": 3, "elastic_sigma_px": 2, "rotation_deg": 180, "flips": True,
    "brightness": 0.1, "contrast": 0.1, "gamma": 0.1, "noise": 0.05,
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def settings(augment=AUGMENTATION, dropout=0.5, **changes):
    return {
        "network": {"depth": 1, "base_channels": 4, "dropout": dropout},
        "augment": augment,
        "train": {
            "steps": 7, "batch": 1, "input_px": 28, "optimiser": "adamw", "learning_rate": 0.01,
            "momentum": 0.99, "weight_decay": 0.01, "schedule": "cosine", "warmup_steps": 2,
            "gradient_clip_norm": 1, "average_decay": 0.9, "precision": "float32", "seed": 5,
            "threads": 1, "checkpoint_every_steps": 2, "validate_every_steps": 3,
        } | changes,
    }  # fmt: skip


def discs(seed, side=48, ignored=True):
    """An image of bright discs in noise, annotated but for a corner."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    target = np.zeros((side, side), np.uint8)
    for cy, cx in random.uniform(0, side, (5, 2)):
        target[(y - cy) ** 2 + (x - cx) ** 2 < 36] = 1
    image = target + random.normal(0, 0.2, target.shape)
    border = random.uniform(0, 3, target.shape) * (target == 0)
    if ignored:
        target[:10, :10] = 255
    return AnnotatedImage(
        f"discs{seed}", image[None].astype(np.float32), target, border.astype(np.float32)
    )


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# The loss and one step


def test_loss_is_equation_1_and_ignored_pixels_weigh_nothing():
    random = np.random.default_rng(0)
    scores = random.normal(size=(2, 3, 4, 5))
    target = random.integers(0, 3, (2, 4, 5))
    target[0, :2] = 255
    border = random.uniform(0, 10, target.shape)
    weight_of = np.zeros(256)
    weight_of[:3], weight_of[255] = [0.5, 1, 2], 1e6
    energy = 0.0
    for b, y, x in np.ndindex(*target.shape):
        true = target[b, y, x]
        if true != 255:
            p = np.exp(scores[b, :, y, x]) / np.exp(scores[b, :, y, x]).sum()
            energy -= (weight_of[true] + border[b, y, x]) * math.log(p[true])
    given = [torch.tensor(a, dtype=torch.float32) for a in (scores, border, weight_of)]
    loss = weighted_cross_entropy(given[0], torch.tensor(target), given[1], given[2])
    assert loss.item() == pytest.approx(energy / target.size, rel=1e-5)
    nothing = torch.full((2, 4, 5), 255)
    assert weighted_cross_entropy(given[0], nothing, given[1], given[2]).item() == 0


def test_loss_is_float32_whatever_the_networks_precision():
    scores = torch.tensor([[8.0, -8.0]], dtype=torch.bfloat16).reshape(1, 2, 1, 1)
    loss = weighted_cross_entropy(
        scores, torch.zeros(1, 1, 1, dtype=torch.long), torch.zeros(1, 1, 1), torch.ones(256)
    )
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log1p(math.exp(-16)), rel=0.1)  # bfloat16 gives 0


def test_steps_are_those_of_a_hand_written_reference(tmp_path):
    """Two steps of the paper's recipe: SGD with momentum 0.99 on the hand-derived gradient."""
    recipe = settings(
        NO_AUGMENTATION, dropout=0, optimiser="sgd", learning_rate=0.05, schedule="constant",
        warmup_steps=0, gradient_clip_norm=0, average_decay=0,
    )  # fmt: skip
    training = Training([discs(0)], [], recipe, CLASS_WEIGHTS, tmp_path)
    weights = {k: v.double().numpy().copy() for k, v in training.network.state_dict().items()}
    velocity = dict.fromkeys(weights, 0)
    for step in range(2):
        x, target, border = (tensor[0].numpy() for tensor in training.tiles(step))
        loss, gradient = unet_reference.loss_and_gradient(
            weights, x.astype(np.float64), target, border, CLASS_WEIGHTS
        )
        assert gradient.keys() == weights.keys()
        velocity = {name: 0.99 * velocity[name] + g for name, g in gradient.items()}
        weights = {name: w - 0.05 * velocity[name] for name, w in weights.items()}
        training.step()
        assert training._losses[step] == pytest.approx(loss, rel=1e-5)
        for name, found in training.network.state_dict().items():
            largest = np.abs(0.05 * velocity[name]).max()
            assert largest > 0
            assert np.abs(found.numpy() - weights[name]).max() < 1e-4 * largest + 1e-7


def test_the_gradient_is_clipped(tmp_path):
    recipe = settings(
        optimiser="sgd", momentum=0, learning_rate=1.0, schedule="constant", warmup_steps=0,
        gradient_clip_norm=0.01,
    )  # fmt: skip
    training = Training([discs(0)], [], recipe, CLASS_WEIGHTS, tmp_path)
    before = {k: v.clone() for k, v in training.network.state_dict().items()}
    training.step()
    moved = sum(((v - before[k]) ** 2).sum() for k, v in training.network.state_dict().items())
    assert moved.sqrt().item() == pytest.approx(0.01, rel=1e-3)


def test_learning_rate_warms_up_and_falls_as_a_cosine():
    plan = settings(steps=110, warmup_steps=10, learning_rate=2.0)["train"]
    assert [learning_rate(step, plan) for step in (0, 4, 9, 10)] == pytest.approx([0.2, 1, 2, 2])
    assert learning_rate(60, plan) == pytest.approx(1)
    assert 0 < learning_rate(109, plan) < 0.001
    assert learning_rate(109, plan | {"schedule": "constant"}) == 2
    with pytest.raises(UserError, match=r"train\.schedule"):
        learning_rate(20, plan | {"schedule": "linear"})


def test_average_is_exponential_after_a_quick_start():
    layer = torch.nn.Linear(1, 1, bias=False)
    average = Average(layer, 0.9)
    expected = layer.weight.item()
    for step in range(120):
        with torch.no_grad():
            layer.weight.fill_(math.sin(step))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * math.sin(step)
    assert average.weights()["weight"].item() == pytest.approx(expected, rel=1e-5)
    layer.weight.data.fill_(3)
    assert Average(layer, 0).weights()["weight"].item() == 3


# Where tiles come from


def test_an_undeformed_tile_is_the_mirrored_image_itself(tmp_path):
    image = discs(3)
    training = Training([image], [], settings(NO_AUGMENTATION), CLASS_WEIGHTS, tmp_path)
    padded = [np.pad(a, 40, "reflect") for a in (image.image[0], image.target, image.border)]
    for step in range(20):
        x, target, border = training.tiles(step)
        y0, x0 = (int(c + 40 - 13.5) for c in training.sampler.draw(step, 1)[0].centre_px)
        inner = np.s_[y0 + 8 : y0 + 20, x0 + 8 : x0 + 20]
        assert np.array_equal(x[0, 0].numpy(), padded[0][y0 : y0 + 28, x0 : x0 + 28])
        assert np.array_equal(target[0].numpy(), padded[1][inner])
        assert np.array_equal(border[0].numpy(), padded[2][inner])


def test_all_pixels_of_all_images_are_drawn_alike():
    """Counted over every place a tile can have, mirrored as the tiles are."""
    shapes, tile = [(40, 25), (30, 50)], 14
    sampler = Sampler(shapes, tile, seed=1)
    draws = [draw for step in range(4000) for draw in sampler.draw(step, 2)]
    shares = np.bincount([draw.image for draw in draws]) / len(draws)
    assert shares == pytest.approx([1000 / 2500, 1500 / 2500], abs=0.03)
    for which, (height, width) in enumerate(shapes):
        centres = np.array([d.centre_px for d in draws if d.image == which])
        assert set(centres[:, 0]) == {y + 0.5 for y in range(height)}
        assert set(centres[:, 1]) == {x + 0.5 for x in range(width)}
        for axis, size in enumerate((height, width)):
            assert np.bincount(centres[:, axis].astype(int)).std() / (len(centres) / size) < 0.2
            drawn = np.zeros(size)
            for centre in range(size):
                along = np.abs(np.arange(centre - tile // 2 + 1, centre + tile // 2 + 1))
                np.add.at(drawn, np.minimum(along, 2 * (size - 1) - along), 1)
            assert np.ptp(drawn[1:-1]) <= 2 and abs(drawn[1:-1].mean() - tile) < 1


# Repeatability


@pytest.fixture(scope="module")
def uncut(tmp_path_factory):
    """Trainings that ran through, by their changed settings."""
    torch.set_num_threads(1)
    done = {}

    def run(**changes):
        key = tuple(sorted(changes.items()))
        if key not in done:
            folder = tmp_path_factory.mktemp("uncut")
            done[key] = train([discs(0), discs(1)], [discs(2)], settings(**changes),
                              CLASS_WEIGHTS, folder)  # fmt: skip
        return done[key]

    return run


def test_the_same_seed_gives_the_same_weights_bit_for_bit(tmp_path, uncut):
    again = train([discs(0), discs(1)], [discs(2)], settings(), CLASS_WEIGHTS, tmp_path)
    assert equal(again.last, uncut().last)
    assert again.history == uncut().history
    assert not equal(again.last, uncut(seed=6).last)


@pytest.mark.parametrize(
    ("stops", "changes"),
    [
        ([1], {}),
        ([3, 4, 6, 7], {}),
        ([5], {"optimiser": "sgd", "learning_rate": 1e-3, "average_decay": 0}),
        ([2, 3], {"precision": "bfloat16", "batch": 2}),
    ],
)
def test_a_training_cut_anywhere_ends_with_the_same_bits(tmp_path, uncut, stops, changes):
    """Where validation is due (steps 3, 6 and 7) the stop cuts it short, and it is made up for."""
    images, validation = [discs(0), discs(1)], [discs(2)]
    rows = []
    for stop in stops:
        training = Training(images, validation, settings(**changes), CLASS_WEIGHTS, tmp_path)
        assert training.run(lambda t=training, stop=stop: t.step_number == stop, print) is None
        assert checkpoints.load_latest(tmp_path)[1]["step"] == stop
    result = train(images, validation, settings(**changes), CLASS_WEIGHTS, tmp_path,
                   on_row=rows.append)  # fmt: skip
    expected = uncut(**changes)
    assert equal(result.last, expected.last)
    assert equal(result.best, expected.best)
    assert result.best_step == expected.best_step
    assert result.history == expected.history == rows


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_killed_training_with_damaged_checkpoints_ends_with_the_same_bits(
    tmp_path, uncut, damaged
):
    """Killed at step 5: checkpoints of steps 2 and 4 are there. The last, or both, are damaged."""
    images, validation = [discs(0), discs(1)], [discs(2)]

    def die(row):
        if row["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(images, validation, settings(), CLASS_WEIGHTS, tmp_path, on_row=die)
    files = sorted(tmp_path.glob("checkpoint-*"), reverse=True)
    assert len(files) == 2
    for path in files[:damaged]:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    result = train(images, validation, settings(), CLASS_WEIGHTS, tmp_path)
    assert equal(result.last, uncut().last)
    assert result.history == uncut().history


def test_checkpoints_of_another_training_are_refused(tmp_path):
    train([discs(0)], [], settings(), CLASS_WEIGHTS, tmp_path)
    with pytest.raises(UserError, match="another training"):
        train([discs(1)], [], settings(), CLASS_WEIGHTS, tmp_path)
    with pytest.raises(UserError, match="another training"):
        train([discs(0)], [], settings(steps=8), CLASS_WEIGHTS, tmp_path)


# Results and failures


def test_it_learns_and_keeps_the_best_weights(tmp_path):
    recipe = settings(steps=150, input_px=44, validate_every_steps=50, dropout=0, weight_decay=0)
    rows = []
    result = train(
        [discs(0), discs(1)], [discs(2)], recipe, CLASS_WEIGHTS, tmp_path, on_row=rows.append
    )
    measured = {r["step"]: r["validation_iou"] for r in rows if "validation_iou" in r}
    assert list(measured) == [50, 100, 150]
    assert max(measured.values()) > 0.85
    assert measured[result.best_step] == max(measured.values())
    assert all(rows[i]["step"] < rows[i + 1]["step"] for i in range(len(rows) - 1))
    assert math.fsum(r["loss"] for r in rows[:5]) > 2 * math.fsum(r["loss"] for r in rows[-5:])


def test_nan_stops_at_once_and_never_becomes_weights(tmp_path, monkeypatch):
    training = Training([discs(0)], [discs(2)], settings(), CLASS_WEIGHTS, tmp_path)
    make = training.tiles

    def spoil(step):
        x, target, border = make(step)
        return x * (math.nan if step == 4 else 1), target, border

    monkeypatch.setattr(training, "tiles", spoil)
    with pytest.raises(UserError, match="step 5: the loss is nan"):
        training.run(lambda: False, lambda row: None)
    assert training.step_number == 5
    assert all(torch.isfinite(tensor).all() for tensor in training.best.values())
    tensors, state = checkpoints.load_latest(tmp_path)
    assert state["step"] == 4
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_weights_that_diverge_in_the_last_step_are_refused(tmp_path, monkeypatch):
    """The loss was still finite: it is that of the weights before the step."""
    training = Training([discs(0)], [], settings(steps=1), CLASS_WEIGHTS, tmp_path)
    bias = training.network.score.bias
    monkeypatch.setattr(training.optimiser, "step", lambda: bias.data.fill_(math.inf))
    with pytest.raises(UserError, match="diverged at step 1"):
        training.run(lambda: False, lambda row: None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": np.full((1, 48, 48), np.nan, np.float32)}, "NaN"),
        ({"border": np.full((48, 48), np.inf, np.float32)}, "infinite"),
        ({"border": np.zeros((48, 47), np.float32)}, "shape"),
        ({"image": np.zeros((3, 48, 48), np.float32)}, "channels"),
        ({"target": np.full((48, 48), 2, np.uint8)}, "class 2"),
    ],
)
def test_unfit_images_are_named(tmp_path, change, words):
    good = discs(0)
    bad = AnnotatedImage(**{**good.__dict__, "name": "bad", **change})
    with pytest.raises(UserError, match=f"bad: .*{words}"):
        train([good, bad], [], settings(), CLASS_WEIGHTS, tmp_path)


def test_nothing_annotated_is_refused(tmp_path):
    empty = AnnotatedImage(**{**discs(0).__dict__, "target": np.full((48, 48), 255, np.uint8)})
    with pytest.raises(UserError, match="annotated"):
        train([empty], [], settings(), CLASS_WEIGHTS, tmp_path)
    with pytest.raises(UserError, match="no image"):
        train([], [], settings(), CLASS_WEIGHTS, tmp_path)


def test_a_fold_trains_where_only_torch_numpy_and_scipy_are_installed(tmp_path):
    """From arrays in a file, with everything else that is installed here kept out."""
    image = discs(0)
    np.savez(tmp_path / "fold.npz", image=image.image, target=image.target, border=image.border)
    script = f"""
import sys

for absent in ("zarr", "dask", "tifffile", "skimage", "snakemake", "safetensors", "pandas",
               "matplotlib", "tensorboard", "tqdm", "yaml", "PIL", "numba", "imagecodecs"):
    sys.modules[absent] = None  # importing it raises ModuleNotFoundError
import numpy as np
from pathlib import Path
from slideunet.training import train
from slideunet.training_data import AnnotatedImage

arrays = np.load({str(tmp_path / "fold.npz")!r}, allow_pickle=False)
image = AnnotatedImage("fold", arrays["image"], arrays["target"], arrays["border"])
folder = Path({str(tmp_path)!r})
result = train([image], [image], {settings(steps=2)!r}, {CLASS_WEIGHTS!r}, folder)
print(result.history[-1]["step"])
"""
    path = os.pathsep.join([str(Path(slideunet.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2"]


def test_a_checkpoint_holds_all_that_the_next_step_depends_on(tmp_path):
    train([discs(0)], [discs(2)], settings(), CLASS_WEIGHTS, tmp_path)
    last = max(tmp_path.glob("checkpoint-*"))
    entries, metadata = read_header(last)
    assert {name.split("/")[0] for name in entries} == {"network", "average", "best", "optimiser"}
    assert {"step", "history", "losses", "fingerprint"} <= set(checkpoints.json.loads(
        metadata["state"]
    ))  # fmt: skip
