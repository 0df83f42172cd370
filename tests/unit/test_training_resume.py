"""Training again, and training cut short: the same weights, bit for bit."""

import json

import pytest
import torch
from slideunet import checkpoints
from slideunet.errors import UserError
from slideunet.tensorfile import read_header
from slideunet.training import Training, train
from training_cases import CLASS_WEIGHTS, discs, equal, settings


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


def test_a_checkpoint_holds_all_that_the_next_step_depends_on(tmp_path):
    train([discs(0)], [discs(2)], settings(), CLASS_WEIGHTS, tmp_path)
    last = max(tmp_path.glob("checkpoint-*"))
    entries, metadata = read_header(last)
    assert {name.split("/")[0] for name in entries} == {"network", "average", "best", "optimiser"}
    assert {"step", "history", "losses", "fingerprint"} <= set(json.loads(
        metadata["state"]
    ))  # fmt: skip
