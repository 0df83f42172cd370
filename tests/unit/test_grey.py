"""Grey-value variation against its formulas."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from slideunet import grey
from slideunet.grey import Grey

ALL = {"gamma": 0.3, "contrast": 0.3, "brightness": 0.2, "blur_px": 1.5, "noise": 0.05}
OFF = Grey((1.0, 1.0), (1.0, 1.0), (0.0, 0.0), 0.0, 0.0, 0)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count=1) -> torch.Tensor:
    """Values from -0.1 to 1.1: scaled grey values are not clipped."""
    return torch.rand(count, 2, 40, 50, generator=generator(0)) * 1.2 - 0.1


def test_all_off_changes_nothing():
    drawn = grey.sample_grey(generator(0), {}, 2)
    assert drawn._replace(noise_seed=0) == OFF
    assert torch.equal(grey.vary_grey(images(), [drawn]), images())


def test_each_change_is_its_formula():
    before = images()[0].numpy().astype(np.float64)
    mean = before.mean(axis=(1, 2), keepdims=True)
    two = np.array([1.3, 0.8])[:, None, None]
    for change, expected in (
        ({"exponent": (1.3, 0.8)}, np.sign(before) * np.abs(before) ** two),
        ({"factor": (1.3, 0.8)}, mean + two * (before - mean)),
        ({"offset": (1.3, 0.8)}, before + two),
        ({"exponent": (2.0, 2.0), "offset": (1.0, 1.0)}, before * np.abs(before) + 1),
    ):
        after = grey.vary_grey(images(), [OFF._replace(**change)])[0]
        np.testing.assert_allclose(after, expected, atol=2e-6)


@pytest.mark.parametrize("sigma_px", [0.4, 1.5])
def test_blur_is_scipys_gaussian_filter(sigma_px):
    after = grey.vary_grey(images(), [OFF._replace(blur_px=sigma_px)])[0]
    for channel, blurred in zip(images()[0], after, strict=True):
        expected = ndimage.gaussian_filter(
            channel.numpy(), sigma_px, mode="mirror", radius=math.ceil(3 * sigma_px)
        )
        np.testing.assert_allclose(blurred, expected, atol=1e-6)


def test_noise_has_its_standard_deviation_and_its_seed():
    still = torch.zeros(3, 2, 200, 200)
    greys = [OFF._replace(noise=0.05, noise_seed=seed) for seed in (1, 1, 2)]
    first, same, other = grey.vary_grey(still, greys)
    assert float(first.std()) == pytest.approx(0.05, rel=0.02)
    assert abs(float(first.mean())) < 0.001
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_draws_follow_the_settings_and_the_seed():
    draws = [grey.sample_grey(generator(seed), ALL, 2) for seed in range(300)]
    exponents = np.log([draw.exponent for draw in draws])
    factors = np.array([draw.factor for draw in draws])
    offsets = np.array([draw.offset for draw in draws])
    for values, low, high in ((exponents, -0.3, 0.3), (factors, 0.7, 1.3), (offsets, -0.2, 0.2)):
        assert low <= values.min() < low + 0.02
        assert high - 0.02 < values.max() <= high
        assert abs(np.corrcoef(values.T)[0, 1]) < 0.2  # each channel on its own
    assert 1.4 < max(draw.blur_px for draw in draws) <= 1.5
    assert 0.045 < max(draw.noise for draw in draws) <= 0.05
    assert len({draw.noise_seed for draw in draws}) == 300
    assert grey.sample_grey(generator(5), ALL, 2) == draws[5]
    # What is off shifts nothing else.
    assert grey.sample_grey(generator(5), {"noise": 0.05}, 2).noise == draws[5].noise


def test_a_batch_gets_one_change_each():
    both = [grey.sample_grey(generator(seed), ALL, 2) for seed in (0, 1)]
    together = grey.vary_grey(images(2), both)
    for i in range(2):
        assert torch.equal(together[i], grey.vary_grey(images(2)[i : i + 1], both[i : i + 1])[0])
