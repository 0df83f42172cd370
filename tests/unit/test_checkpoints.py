"""Checkpoints: two are kept, a damaged one is passed over with one line, no litter is left."""

import logging
import os

import pytest
import torch
from slideunet import checkpoints


def tensors(value):
    return {
        "network": {"w": torch.full((3, 2), float(value))},
        "optimiser": {"0.step": torch.tensor(value)},
    }


def test_the_last_checkpoint_comes_back(tmp_path):
    for step in (2, 4, 10):
        checkpoints.save(tmp_path, step, tensors(step), {"history": [{"loss": step / 3}]})
    found, state = checkpoints.load_latest(tmp_path)
    assert state == {"step": 10, "history": [{"loss": 10 / 3}]}
    assert torch.equal(found["network"]["w"], tensors(10)["network"]["w"])
    assert found["optimiser"]["0.step"].shape == ()


def test_the_last_two_are_kept(tmp_path):
    for step in range(1, 6):
        checkpoints.save(tmp_path, step, tensors(step), {})
    assert sorted(os.listdir(tmp_path)) == [
        "checkpoint-000000004.safetensors",
        "checkpoint-000000005.safetensors",
    ]


def test_there_may_be_none(tmp_path):
    assert checkpoints.load_latest(tmp_path) is None


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "zeros"])
def test_a_damaged_one_is_passed_over_with_one_line(tmp_path, caplog, damage):
    checkpoints.save(tmp_path, 1, tensors(1), {})
    last = checkpoints.save(tmp_path, 2, tensors(2), {})
    content = last.read_bytes()
    flipped = content[:-1] + bytes([content[-1] ^ 64])
    last.write_bytes(
        {"flip": flipped, "cut": content[:-4], "empty": b"", "zeros": bytes(len(content))}[damage]
    )
    with caplog.at_level(logging.WARNING):
        found, state = checkpoints.load_latest(tmp_path)
    assert state["step"] == 1
    assert torch.equal(found["network"]["w"], tensors(1)["network"]["w"])
    assert [record.getMessage().count(last.name) for record in caplog.records] == [1]


def test_a_writer_that_dies_leaves_the_last_one_and_its_litter_is_swept(tmp_path, monkeypatch):
    checkpoints.save(tmp_path, 1, tensors(1), {})

    def die(source, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(tmp_path, 2, tensors(2), {})
    (tmp_path / ".checkpoint-000000002.safetensors.123.part").write_bytes(b"half")  # by kill -9
    assert checkpoints.load_latest(tmp_path)[1]["step"] == 1
    assert os.listdir(tmp_path) == ["checkpoint-000000001.safetensors"]


def test_equal_states_give_equal_bytes(tmp_path):
    paths = []
    for name in "ab":
        (tmp_path / name).mkdir()
        paths.append(checkpoints.save(tmp_path / name, 3, tensors(3), {"z": 1, "a": 2}))
    assert paths[0].read_bytes() == paths[1].read_bytes()
