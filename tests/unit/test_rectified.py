"""Convolution and ReLU in one pass: the same numbers as PyTorch's two."""

import pytest
import torch
from memory_slide import network
from slideunet import rectified
from slideunet.overlap_tile import prepare
from torch.nn.functional import relu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("padding", [0, 1])
def test_one_pass_is_the_convolution_and_its_relu(dtype, padding):
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(8, 16, 3, padding=padding).to(dtype)
    layer = layer.to(memory_format=torch.channels_last)
    x = torch.randn(1, 8, 40, 52).to(dtype).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        found, expected = rectified.one_pass(layer, x), relu(layer(x))
    assert torch.equal(found, expected)
    assert 0.2 < (found == 0).float().mean() < 0.8


@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_relu_in_place(dtype, learning):
    x = torch.randn(2, 3, 20, 30).to(dtype)
    x[0, 0, 0, :4] = torch.tensor([0.0, -0.0, float("inf"), -float("inf")])
    expected = relu(x)
    with torch.set_grad_enabled(learning):
        found = rectified.rectified(x)
    assert found is x and torch.equal(x, expected)
    assert not torch.signbit(x[0, 0, 0, 0])


def test_a_prepared_network_is_the_network(monkeypatch):
    plain, made = network(2), network(2)
    x = torch.rand(1, 1, 76, 92)
    made = prepare(made, torch.device("cpu"), torch.float32)
    layers = []
    op = rectified.one_pass
    monkeypatch.setattr("slideunet.network.one_pass", lambda *a: layers.append(1) or op(*a))
    with torch.inference_mode():
        assert torch.allclose(made(x), plain(x), atol=1e-5)
    assert len(layers) == 10


def test_without_the_operator_two_passes_do(monkeypatch):
    monkeypatch.setattr(rectified, "has_one_pass", lambda: False)
    layer = torch.nn.Conv2d(1, 4, 3)
    x = torch.rand(1, 1, 9, 9)
    with torch.inference_mode():
        assert torch.equal(rectified.one_pass(layer, x), relu(layer(x)))
