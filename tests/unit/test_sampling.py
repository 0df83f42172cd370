"""Where tiles come from: every pixel alike."""

import numpy as np
import pytest
from slideunet.sampling import Sampler


def test_all_pixels_of_all_images_are_drawn_alike():
    """Counted over every place a tile can have, mirrored as the tiles are."""
    shapes, tile = [(40, 25), (30, 50)], 14
    sampler = Sampler(shapes, tile, seed=1)
    draws = [draw for step in range(4000) for draw in sampler.draw(step, 2)]
    assert draws[:2] == sampler.draw(0, 2) != Sampler(shapes, tile, seed=2).draw(0, 2)
    shares = np.bincount([draw.image for draw in draws]) / len(draws)
    assert shares == pytest.approx([1000 / 2500, 1500 / 2500], abs=0.03)
    for which, (height, width) in enumerate(shapes):
        centres = np.array([d.centre_px for d in draws if d.image == which])
        assert set(centres[:, 0]) == {y + 0.5 for y in range(height)}
        assert set(centres[:, 1]) == {x + 0.5 for x in range(width)}
        for axis, size in enumerate((height, width)):
            assert np.bincount(centres[:, axis].astype(int)).std() / (len(centres) / size) < 0.2
            drawn = np.zeros(size)
            for centre in range(size):
                along = np.abs(np.arange(centre - tile // 2 + 1, centre + tile // 2 + 1))
                np.add.at(drawn, np.minimum(along, 2 * (size - 1) - along), 1)
            assert np.ptp(drawn[1:-1]) <= 2 and abs(drawn[1:-1].mean() - tile) < 1
