"""The learning rate's course and the average of the weights, against their formulas."""

import math

import pytest
import torch
from slideunet.errors import UserError
from slideunet.optimisation import Average, clip_gradients, learning_rate
from training_cases import settings


def test_learning_rate_warms_up_and_falls_as_a_cosine():
    plan = settings(steps=110, warmup_steps=10, learning_rate=2.0)["train"]
    assert [learning_rate(step, plan) for step in (0, 4, 9, 10)] == pytest.approx([0.2, 1, 2, 2])
    assert learning_rate(60, plan) == pytest.approx(1)
    assert 0 < learning_rate(109, plan) < 0.001
    assert learning_rate(109, plan | {"schedule": "constant"}) == 2
    flat = plan | {"flat": 0.5}
    assert [learning_rate(step, flat) for step in (10, 55)] == [2, 2]
    assert learning_rate(82, flat) == pytest.approx(2 * 0.5 * (1 + math.cos(math.pi * 27 / 55)))
    with pytest.raises(UserError, match=r"train\.schedule"):
        learning_rate(20, plan | {"schedule": "linear"})


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, math.inf, math.nan])
def test_gradients_are_clipped_as_torch_clips_them(scale):
    """The same bits, whether they are scaled or, below the norm, left alone."""
    layers = [torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last) for _ in range(2)]
    generator = torch.Generator().manual_seed(0)
    for parameters in zip(*(layer.parameters() for layer in layers), strict=True):
        gradient = scale * torch.randn(parameters[0].shape, generator=generator)
        for parameter in parameters:
            parameter.grad = gradient.clone()
    clip_gradients(list(layers[0].parameters()), 1.0)
    torch.nn.utils.clip_grad_norm_(layers[1].parameters(), 1.0)
    for ours, theirs in zip(*(layer.parameters() for layer in layers), strict=True):
        assert torch.equal(ours.grad.nan_to_num(7), theirs.grad.nan_to_num(7))


def test_a_norm_just_below_the_limit_is_scaled_as_torch_scales_it():
    ours, theirs = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    for parameter in (ours, theirs):
        parameter.grad = torch.full((1,), 1 - 5e-7)
    clip_gradients([ours], 1.0)
    torch.nn.utils.clip_grad_norm_([theirs], 1.0)
    assert torch.equal(ours.grad, theirs.grad)
    assert ours.grad.item() < 1 - 5e-7


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
