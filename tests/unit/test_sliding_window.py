"""The network of one pixel per patch: all patches at once are the patches one by one."""

import numpy as np
import pytest
import torch
from slideunet.geometry import context_px
from slideunet.network import build, initialise
from slideunet.overlap_tile import prepare
from slideunet.sliding_window import DEPTH, PATCH_PX
from slideunet.whole_image import predict_image

SETTINGS = {"depth": 3, "base_channels": 6, "dropout": 0.0, "sliding_window": True}


@pytest.fixture(scope="module")
def network():
    made = build(SETTINGS, channels=2, classes=3)
    initialise(made, torch.Generator().manual_seed(1))
    return made.eval()


def test_patch_is_the_context_of_a_depth(network):
    assert 2 * context_px(DEPTH) + 1 == PATCH_PX
    assert network(torch.zeros(4, 2, PATCH_PX, PATCH_PX)).shape == (4, 3, 1, 1)
    assert network.output_px(PATCH_PX) == 1
    with pytest.raises(ValueError, match="holds no patch"):
        network.output_px(PATCH_PX - 1)


def test_tile_is_its_patches_one_by_one(network):
    tile = torch.randn(1, 2, PATCH_PX + 5, PATCH_PX + 8, generator=torch.Generator().manual_seed(2))
    patches = tile.unfold(2, PATCH_PX, 1).unfold(3, PATCH_PX, 1)  # (1, C, 6, 9, 89, 89)
    patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, 2, PATCH_PX, PATCH_PX)
    with torch.inference_mode():
        one_by_one = network(patches)[:, :, 0, 0].T.reshape(1, 3, 6, 9)
        at_once = network(tile)
    assert one_by_one.std() > 0.01
    torch.testing.assert_close(at_once, one_by_one, rtol=1e-5, atol=1e-5)


def test_whole_image_gives_each_pixel_the_patch_around_it(network):
    image = np.random.default_rng(3).random((2, 40, 50), dtype=np.float32)
    found = predict_image(prepare(network, torch.device("cpu"), torch.float32), image)
    assert found.shape == (3, 40, 50)
    half = PATCH_PX // 2
    wide = np.pad(image, ((0, 0), (half, half), (half, half)), mode="reflect")
    for y, x in [(0, 0), (17, 31), (39, 49)]:
        patch = torch.from_numpy(wide[None, :, y : y + PATCH_PX, x : x + PATCH_PX].copy())
        with torch.inference_mode():
            alone = torch.softmax(network(patch)[0, :, 0, 0], 0)
        torch.testing.assert_close(found[:, y, x], alone, rtol=1e-5, atol=1e-5)
