"""Models on disk: what was written comes back, and nothing unsound is loaded or allocated."""

import json
import os
import struct
import tracemalloc

import pytest
import safetensors.torch
import torch
from slideunet import model, store
from slideunet.errors import UserError
from slideunet.network import initialise
from slideunet.tensorfile import is_whole, read_header, read_tensors, write_tensors

DESCRIPTION = model.Description(
    architecture={"depth": 2, "base_channels": 2, "dropout": 0.5},
    channels=1,
    classes=["background", "cell"],
    normalisation={"scope": "image", "low_percentile": 1, "high_percentile": 99.8},
    mpp_um=None,
)


@pytest.fixture
def saved(tmp_path):
    """A model card with its weights; returns the card's path and the network."""
    network = model.build(DESCRIPTION)
    initialise(network, torch.Generator().manual_seed(1))
    digest = model.save_weights(tmp_path / model.WEIGHTS, network.state_dict())
    model.write_card(tmp_path / "model.json", DESCRIPTION, digest, training={"steps": 3})
    return tmp_path / "model.json", network


def edit(path, **changes):
    """Change values of a card as a person would, without its checksum."""
    card = json.loads(path.read_bytes())
    del card["checksum"]
    path.write_bytes(json.dumps({**card, **changes}).encode())


def raw_file(path, header, data=b""):
    """A file with this header (a mapping or bytes), whatever it says."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_a_saved_model_comes_back(saved):
    path, network = saved
    loaded, description = model.load(path)
    assert description == DESCRIPTION
    assert not loaded.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    x = torch.randn(1, 1, 60, 60)
    assert torch.equal(loaded(x), network.eval()(x))


def test_a_model_is_loaded_by_its_manifest_and_damage_is_named(tmp_path):
    def build(work):
        network = model.build(DESCRIPTION)
        model.save_weights(work.folder / model.WEIGHTS, network.state_dict())
        return [model.WEIGHTS], DESCRIPTION.as_json()

    manifest = tmp_path / "train.json"
    store.make(manifest, build, kind="train", settings={}, code={}, inputs={})
    assert model.load(manifest)[1] == DESCRIPTION
    weights = bytearray((tmp_path / model.WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (tmp_path / model.WEIGHTS).write_bytes(weights)
    with pytest.raises(UserError, match="model.safetensors"):
        model.load(manifest)


def test_other_programs_read_our_files_and_we_theirs(tmp_path):
    tensors = {
        "b": torch.arange(6.0).reshape(2, 3),
        "a": torch.tensor(7, dtype=torch.int64),
        "c": torch.tensor([1, 2, 3], dtype=torch.uint8),
    }
    write_tensors(tmp_path / "ours", tensors, {"format": "pt"})
    theirs = safetensors.torch.load_file(tmp_path / "ours")
    safetensors.torch.save_file(tensors, tmp_path / "theirs")
    ours = read_tensors(tmp_path / "theirs", read_header(tmp_path / "theirs")[0])
    for name, tensor in tensors.items():
        assert torch.equal(theirs[name], tensor)
        assert torch.equal(ours[name], tensor)


def test_each_flipped_bit_of_a_file_is_found(tmp_path):
    path = tmp_path / "file"
    write_tensors(path, {"a": torch.arange(5.0), "b": torch.zeros(0)}, {"note": "x"})
    content = path.read_bytes()
    assert is_whole(path, read_header(path)[1])
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            assert not is_whole(path, read_header(path)[1])
        except UserError as error:
            assert str(path) in str(error)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(UserError):
            read_header(path)


def tensor(shape=(1,), offsets=(0, 4), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"\x80\x04\x95", "not a safetensors file"),  # a pickle
        (b"[" * 100_000, "not a safetensors file"),
        (b'{"a": 1', "not a safetensors file"),
        (b"[]", "no mapping"),
        (b'{"__metadata__": 3}', "metadata"),
        (b'{"a": NaN}', "float32"),
        (b'{"a": {}, "a": {}}', "twice"),
        ({"a": tensor(dtype="object")}, "float32"),
        ({"a": tensor(shape=(2**40, 2**40))}, "does not fit"),
        ({"a": tensor(shape=(10**30,))}, "not a shape"),
        ({"a": tensor(shape=(-1,))}, "not a shape"),
        ({"a": tensor(shape=(1,) * 9)}, "not a shape"),
        ({"a": tensor(shape=(True,))}, "not a shape"),
        ({"a": tensor(offsets=(0, 8))}, "does not fit"),
        ({"a": tensor(offsets=(4, 0))}, "does not fit"),
        ({"a": tensor(offsets=(0, 4, 8))}, "not offsets"),
        ({"a": tensor(), "b": tensor()}, "does not begin where"),
        ({"a": tensor(offsets=(4, 8))}, "does not begin where"),
        ({"a": tensor(shape=(3,), offsets=(0, 12))}, "bytes of tensors"),
        ({"a": {**tensor(), "more": 1}}, "float32"),
        ({}, "bytes of tensors"),
    ],
)
def test_unsound_headers_are_refused_in_one_line(tmp_path, header, words):
    path = raw_file(tmp_path / "x.safetensors", header, b"\0" * 4)
    with pytest.raises(UserError, match=words) as caught:
        read_header(path)
    assert str(path) in str(caught.value)


def test_an_oversized_header_is_not_read(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 2**40) + b"{}")
    os.truncate(path, 2**31)  # sparse: takes no room
    tracemalloc.start()
    with pytest.raises(UserError, match="header"):
        read_header(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["fifo", "folder", "missing"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path, kind):
    path = tmp_path / "x.safetensors"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(UserError, match=r"x\.safetensors"):
        read_header(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architecture": {"depth": 40, "base_channels": 2, "dropout": 0}}, "depth"),
        ({"architecture": {"depth": 2, "base_channels": 10**9, "dropout": 0}}, "base_channels"),
        ({"architecture": {"depth": 2.0, "base_channels": 2, "dropout": 0}}, "depth"),
        ({"architecture": {"depth": 2, "base_channels": 4, "dropout": 0}}, "tensor"),
        ({"architecture": {"depth": 2, "base_channels": 2, "dropout": 2}}, "dropout"),
        ({"architecture": {}}, "depth"),
        ({"channels": True}, "channels"),
        ({"channels": 3}, "tensor"),
        ({"classes": ["one"]}, "classes"),
        ({"classes": ["a", 3]}, "classes"),
        ({"normalisation": {"scope": "tile"}}, "scope"),
        (
            {"normalisation": {**DESCRIPTION.normalisation, "scope": "training", "low": [1]}},
            "normalisation.high",
        ),
        ({"mpp_um": -1}, "mpp_um"),
        ({"format": "else"}, "format"),
        ({"weights_sha256": "0" * 64}, "checksum"),
    ],
)
def test_unsound_cards_are_refused_in_one_line(saved, change, words):
    path, _ = saved
    edit(path, **change)
    with pytest.raises(UserError, match=words):
        model.load(path)


def test_an_edited_card_is_taken_only_without_its_checksum(saved):
    path, _ = saved
    card = json.loads(path.read_bytes())
    path.write_bytes(json.dumps({**card, "mpp_um": 0.5}).encode())
    with pytest.raises(UserError, match="checksum"):
        model.load(path)
    edit(path, mpp_um=0.5)
    assert model.load(path)[1].mpp_um == 0.5


@pytest.mark.parametrize("text", [b"", b"[1]", b'{"mpp_um": NaN}', b"[" * 10**5, b"\xff"])
def test_what_is_no_card_is_refused(saved, text):
    path, _ = saved
    path.write_bytes(text)
    with pytest.raises(UserError, match="model card"):
        model.load(path)


def test_weights_with_nan_are_refused(saved):
    path, network = saved
    network.score.bias.data[0] = float("nan")
    digest = model.save_weights(path.with_name(model.WEIGHTS), network.state_dict())
    edit(path, weights_sha256=digest)
    with pytest.raises(UserError, match=r"score\.bias.*NaN"):
        model.load(path)


def test_surplus_and_missing_tensors_are_named(saved):
    path, network = saved
    weights = network.state_dict()
    moved = {("extra" if name == "score.bias" else name): t for name, t in weights.items()}
    digest = model.save_weights(path.with_name(model.WEIGHTS), moved)
    edit(path, weights_sha256=digest)
    with pytest.raises(UserError, match="extra"):
        model.load(path)


def test_an_absurd_description_allocates_nothing(saved):
    path, _ = saved
    largest = {"depth": 7, "base_channels": 512, "dropout": 0.5}  # 1.2 TB of weights
    edit(path, architecture=largest)
    tracemalloc.start()
    with pytest.raises(UserError, match="tensor"):
        model.load(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
