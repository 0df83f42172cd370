"""The training: its arithmetic against references, its repeatability, its failures."""

import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import slideunet
import torch
import unet_reference
from slideunet import checkpoints
from slideunet.device import seed_all
from slideunet.errors import UserError
from slideunet.loss import weighted_cross_entropy
from slideunet.training import Training, train
from slideunet.training_data import AnnotatedImage
from training_cases import CLASS_WEIGHTS, NO_AUGMENTATION, discs, equal, settings


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    scores = torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16).reshape(1, 2, 1, 1)
    loss = weighted_cross_entropy(
        scores, torch.zeros(1, 1, 1, dtype=torch.long), torch.zeros(1, 1, 1), torch.ones(256)
    )
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log1p(math.e), rel=1e-6)  # bfloat16: 1.3125


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


def test_dropout_draws_what_torchs_own_seed_gives():
    drawn = []
    for seed in (torch.manual_seed, partial(seed_all, torch.device("cpu"))):
        torch.rand(3)
        seed(2**62 + 11)
        drawn.append(torch.nn.functional.dropout(torch.ones(1000), 0.5))
    assert torch.equal(*drawn)


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


# Results and failures


def test_it_learns(tmp_path):
    recipe = settings(steps=150, input_px=44, validate_every_steps=50, dropout=0, weight_decay=0)
    rows = []
    result = train(
        [discs(0), discs(1)], [discs(2)], recipe, CLASS_WEIGHTS, tmp_path, on_row=rows.append
    )
    measured = {r["step"]: r["validation_iou"] for r in rows if "validation_iou" in r}
    assert list(measured) == [50, 100, 150]
    assert max(measured.values()) > 0.85
    assert rows == result.history
    assert all(rows[i]["step"] < rows[i + 1]["step"] for i in range(len(rows) - 1))
    assert math.fsum(r["loss"] for r in rows[:5]) > 2 * math.fsum(r["loss"] for r in rows[-5:])


def test_the_averaged_weights_of_the_best_validation_are_kept(tmp_path, monkeypatch):
    scores = iter([0.5, 0.9, 0.9, 0.7])
    seen = []

    def validate(network, images, should_stop):
        seen.append({k: v.clone() for k, v in network.state_dict().items()})
        return {"validation_iou": next(scores), "validation_pixel_error": 0.1}

    monkeypatch.setattr("slideunet.training.validate", validate)
    recipe = settings(steps=8, validate_every_steps=2)
    training = Training([discs(0)], [discs(2)], recipe, CLASS_WEIGHTS, tmp_path)
    result = training.run(lambda: False, lambda row: None)
    assert result.best_step == 4
    assert equal(result.best, seen[1])
    assert equal(result.last, seen[3])
    assert equal(result.last, training.average.weights())
    assert not equal(result.last, training.network.state_dict())


def test_dropout_is_on_while_training(tmp_path):
    losses = []
    for dropout in (0, 0.5):
        (tmp_path / str(dropout)).mkdir()
        training = Training([discs(0)], [], settings(dropout=dropout), CLASS_WEIGHTS,
                            tmp_path / str(dropout))  # fmt: skip
        training.step()
        losses += training._losses
    assert losses[0] != losses[1]


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
    groups, state = checkpoints.load_latest(tmp_path)
    assert state["step"] == 4
    assert all(t.isfinite().all() for named in groups.values() for t in named.values())


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
        ({"image": np.zeros((1, 47, 48), np.float32)}, "shape"),
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


def test_tiles_that_do_not_fit_the_network_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"train\.input_px: .* take 26 or 28 px"):
        train([discs(0)], [], settings(input_px=27), CLASS_WEIGHTS, tmp_path)
    padded = settings(input_px=29)
    padded["network"]["padded"] = True
    with pytest.raises(UserError, match=r"train\.input_px: .* multiples of 2 px"):
        train([discs(0)], [], padded, CLASS_WEIGHTS, tmp_path)


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
from functools import partial
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
