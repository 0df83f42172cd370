"""The network is the paper's: figure 1's sizes and counts, section 3's initial weights."""

import math

import pytest
import torch
from slideunet.geometry import is_admitted, output_px
from slideunet.network import UNet, crop_to, initialise
from torch import nn


def convolutions(network):
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]


def test_papers_network_has_23_layers_and_31030658_parameters():
    with torch.device("meta"):
        network = UNet()
    assert sum(p.numel() for p in network.parameters()) == 31_030_658
    assert len(convolutions(network)) == 23


def test_papers_network_takes_572_px_to_388_px():
    with torch.device("meta"):
        network = UNet()
        assert network(torch.empty(1, 1, 572, 572)).shape == (1, 2, 388, 388)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_output_of_each_admitted_size_is_what_the_arithmetic_says(depth):
    """And at a size that is not admitted a pooling loses a row: that is what admitted means."""
    pooled = []
    with torch.device("meta"):
        network = UNet(depth=depth, base_channels=1)
        for block in network.down:
            block.register_forward_hook(lambda module, args, out: pooled.append(out.shape[-1]))
        smallest = next(n for n in range(1, 1000) if is_admitted(n, depth))
        for n in range(smallest, smallest + 2 ** (depth + 1) + 1):
            pooled.clear()
            side = network(torch.empty(1, 1, n, n)).shape[-1]
            evenly = all(size % 2 == 0 for size in pooled)
            assert evenly == is_admitted(n, depth)
            if evenly:
                assert side == output_px(n, depth)


def test_channels_double_and_halve_and_skips_join():
    with torch.device("meta"):
        network = UNet()
    assert [block.second.out_channels for block in network.down] == [64, 128, 256, 512]
    assert network.bottom.second.out_channels == 1024
    assert [(up.in_channels, up.out_channels) for up in network.up] == [
        (128, 64), (256, 128), (512, 256), (1024, 512),
    ]  # fmt: skip
    assert [join.first.in_channels for join in network.join] == [128, 256, 512, 1024]


def test_crop_is_centred():
    skip = torch.arange(36.0).reshape(1, 1, 6, 6)
    assert torch.equal(crop_to(skip, torch.empty(1, 1, 2, 4)), skip[:, :, 2:4, 1:5])


def test_initial_weights_have_the_papers_deviation_in_each_layer():
    network = UNet(depth=3, base_channels=32)
    initialise(network, torch.Generator().manual_seed(3))
    for layer in convolutions(network):
        kernel = 1 if isinstance(layer, nn.ConvTranspose2d) else math.prod(layer.kernel_size)
        expected = math.sqrt(2 / (layer.in_channels * kernel))
        count = layer.weight.numel()
        # A sample's deviation scatters by 1 / sqrt(2 n), its mean by 1 / sqrt(n): five times that.
        assert layer.weight.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * count))
        assert abs(layer.weight.mean().item()) < 5 * expected / math.sqrt(count)
        assert not layer.bias.any()


def test_dropout_only_in_training_and_only_at_the_two_deepest_levels():
    network = UNet(depth=3, base_channels=4)
    initialise(network, torch.Generator().manual_seed(0))
    seen = []
    network.drop.register_forward_hook(
        lambda module, args, out: seen.append((args[0].shape[1], torch.equal(args[0], out)))
    )
    x = torch.randn(1, 1, 100, 100, generator=torch.Generator().manual_seed(1))
    network.train()
    torch.manual_seed(0)
    first, second = network(x), network(x)
    assert not torch.equal(first, second)
    assert [channels for channels, _ in seen] == [16, 32, 16, 32]  # of 4, 8, 16 and 32
    assert not any(same for _, same in seen)
    assert network.drop.p == 0.5
    seen.clear()
    network.eval()
    assert torch.equal(network(x), network(x))
    assert all(same for _, same in seen)
