"""A network as other programs run it: sizes, halo, and tiles that fit together."""

import numpy as np
import pytest
import torch
from memory_slide import network
from slideunet.errors import UserError
from slideunet.network import build
from slideunet.overlap_tile import mirrored
from slideunet.portable_network import Portable, halo_px, smallest_px
from slideunet.whole_image import predict_image


def test_sizes_of_the_papers_network():
    assert (halo_px(4), smallest_px(4)) == (96, 208)


@pytest.mark.parametrize("depth", range(1, 8))
def test_halo_lies_on_the_pooling_grid(depth):
    """Else tiles side by side would be pooled otherwise than one pass over the image."""
    assert halo_px(depth) % 2**depth == 0


def tiled(portable, image, depth, steps):
    """An image (C, Y, X) as other programs do it: tiles, halos cropped, laid side by side."""
    halo, inner = halo_px(depth), 2**depth * steps
    found = []
    for y in range(0, image.shape[1], inner):
        row = []
        for x in range(0, image.shape[2], inner):
            ways = zip((y, x), image.shape[1:], strict=True)
            rows, columns = (mirrored(at - halo, inner + 2 * halo, size) for at, size in ways)
            tile = torch.from_numpy(image[:, rows[:, None], columns[None, :]])[None]
            with torch.inference_mode():
                answer = portable(tile)[0]
            assert answer.shape[1:] == tile.shape[2:]
            assert (answer[:, :halo] == 0).all() and (answer[:, :, -halo:] == 0).all()
            row.append(answer[:, halo:-halo, halo:-halo])
        found.append(torch.cat(row, dim=2))
    return torch.cat(found, dim=1)[:, : image.shape[1], : image.shape[2]].numpy()


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("steps", [1, 5])
def test_tiles_side_by_side_are_one_pass_over_the_image(depth, steps):
    image = np.random.default_rng(0).normal(size=(2, 53, 41)).astype(np.float32)
    made = network(depth, 2, 3)
    found = tiled(Portable(made), image, depth, steps)
    np.testing.assert_allclose(found, predict_image(made, image).numpy(), atol=1e-5)


def test_the_sliding_window_has_the_same_tiles():
    settings = {"sliding_window": True, "base_channels": 4, "dropout": 0}
    made = build(settings, 1, 2).eval()
    image = np.random.default_rng(0).normal(size=(1, 20, 24)).astype(np.float32)
    found = tiled(Portable(made), image, made.depth, 2)
    np.testing.assert_allclose(found, predict_image(made, image).numpy(), atol=1e-5)


def test_a_padded_network_is_refused_in_one_line():
    settings = {"depth": 2, "base_channels": 4, "dropout": 0, "padded": True}
    with pytest.raises(UserError, match="no valid tiles.*network.padded: false"):
        Portable(build(settings, 1, 2))
