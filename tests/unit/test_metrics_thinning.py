"""The watershed before V_rand and V_info: against a plain flooding, pixel by pixel."""

import itertools
from collections import deque

import numpy as np
import pytest
import scipy.ndimage
from slideunet.metrics.thinning import thin_borders

FOUR = ((0, -1), (-1, 0), (0, 1), (1, 0))  # as the flooding looks around: left, up, right, down


MASK, QUEUED = -2, -3


def neighbours(labels, y, x):
    height, width = labels.shape
    near = ((y + down, x + right) for down, right in FOUR)
    return [(v, u) for v, u in near if 0 <= v < height and 0 <= u < width]


def flood(foreground):
    """Soille and Vincent's flooding of two grey levels, straight from their pseudo code."""
    labels, count = scipy.ndimage.label(foreground)
    if not count:
        return np.ones(foreground.shape, int)
    labels = np.where(foreground, labels, MASK)
    columns = itertools.product(*map(range, foreground.T.shape))
    queue = deque(
        (y, x)
        for x, y in columns
        if labels[y, x] == MASK and any(labels[near] > 0 for near in neighbours(labels, y, x))
    )
    for pixel in queue:
        labels[pixel] = QUEUED
    while queue:
        pixel = queue.popleft()
        settle(labels, pixel, queue)
    return labels


def settle(labels, pixel, queue):
    flag = False
    for near in neighbours(labels, *pixel):
        if labels[near] > 0:
            if labels[pixel] == QUEUED or (labels[pixel] == 0 and flag):
                labels[pixel] = labels[near]
            elif labels[pixel] > 0 and labels[pixel] != labels[near]:
                labels[pixel], flag = 0, False
        elif labels[near] == 0 and labels[pixel] == QUEUED:
            labels[pixel], flag = 0, True
        elif labels[near] == MASK:
            labels[near] = QUEUED
            queue.append(near)


def test_two_regions_meet_in_a_line():
    section = np.zeros((3, 7), bool)
    section[:, 0] = section[:, 6] = True
    assert (thin_borders(section) == [[1, 1, 1, 0, 2, 2, 2]] * 3).all()


def test_between_an_even_gap_the_later_pixel_gives_way():
    section = np.zeros((1, 6), bool)
    section[0, 0] = section[0, 5] = True
    assert thin_borders(section).tolist() == [[1, 1, 1, 0, 2, 2]]
    assert thin_borders(section.T).ravel().tolist() == [1, 1, 1, 0, 2, 2]


@pytest.mark.parametrize("share", [0.02, 0.1, 0.4, 0.7])
def test_thinning_is_the_plain_flooding(share):
    rng = np.random.default_rng(10)
    for _ in range(25):
        section = rng.random(rng.integers(1, 25, 2)) < share
        expected = flood(section)
        got = thin_borders(section)
        assert (got == 0).tolist() == (expected == 0).tolist()
        # One region has one number, whichever.
        pairs = set(zip(got.ravel().tolist(), expected.ravel().tolist(), strict=True))
        assert len(pairs) == len({one for one, _ in pairs}) == len({two for _, two in pairs})


def test_a_section_of_one_kind_is_one_region():
    assert (thin_borders(np.zeros((4, 5), bool)) == 1).all()
    assert (thin_borders(np.ones((4, 5), bool)) == 1).all()
    assert thin_borders(np.ones((4, 5), bool)).shape == (4, 5)
