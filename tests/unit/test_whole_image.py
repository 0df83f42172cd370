"""Whole images in memory: a padded network sees each pixel in its place."""

import numpy as np
import pytest
import torch
from slideunet.network import UNet, initialise
from slideunet.overlap_tile import prepare
from slideunet.whole_image import predict_image


@pytest.fixture(scope="module")
def network():
    made = UNet(depth=2, base_channels=4, dropout=0, padded=True)
    initialise(made, torch.Generator().manual_seed(0))
    return prepare(made, torch.device("cpu"), torch.float32)


def alone(network, image):
    with torch.inference_mode():
        return torch.softmax(network(torch.from_numpy(image.copy())[None])[0], 0)


def test_padded_network_takes_the_image_as_it_is(network):
    image = np.random.default_rng(0).random((1, 40, 56), dtype=np.float32)
    torch.testing.assert_close(predict_image(network, image), alone(network, image))


def test_padded_network_sees_the_image_mirrored_up_to_the_grid(network):
    image = np.random.default_rng(1).random((1, 38, 41), dtype=np.float32)
    larger = np.pad(image, ((0, 0), (0, 2), (0, 3)), mode="reflect")
    torch.testing.assert_close(predict_image(network, image), alone(network, larger)[:, :38, :41])


def test_padded_network_is_averaged_over_views(network):
    image = np.random.default_rng(2).random((1, 40, 56), dtype=np.float32)
    mean = predict_image(network, image, "all")
    assert (mean - predict_image(network, image)).abs().max() > 1e-3
    turned = predict_image(network, np.rot90(image, axes=(1, 2)).copy(), "all")
    torch.testing.assert_close(torch.rot90(turned, -1, dims=(1, 2)), mean, atol=1e-5, rtol=1e-5)
