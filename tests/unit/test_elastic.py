"""Tiles read through one geometry: against scipy, numpy's reflect, and each other."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from slideunet import elastic
from slideunet.elastic import IDENTITY, Geometry, Sample

ALL = {
    "elastic_sigma_px": 10,
    "elastic_grid": 3,
    "rotation_deg": 180,
    "scale": 0.2,
    "shift_px": 15,
    "flips": True,
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise_image(shape=(2, 90, 120), seed=0) -> torch.Tensor:
    return torch.rand(shape, generator=generator(seed))


def sample(image, geometry=IDENTITY, centre=(40.5, 50.5)) -> Sample:
    """An image of which the maps tell the places as well as the image does."""
    target = (image[0] * 250).to(torch.uint8)
    return Sample(image, target, image[-1].float() * 12, centre, geometry)


def one(image, geometry, input_px, output_px, centre=(40.5, 50.5)):
    return [
        tiles[0] for tiles in elastic.warp([sample(image, geometry, centre)], input_px, output_px)
    ]


def by_scipy(image, geometry, centre, input_px, order):
    """The same tile from its definition in float64: scipy's zoom, scipy's interpolation."""
    along = np.arange(input_px) - (input_px - 1) / 2
    p = np.stack(np.meshgrid(along, along, indexing="ij"))
    field = [ndimage.zoom(c, input_px / len(c), order=3) for c in geometry.displacement_px.numpy()]
    places = np.einsum("ij,jyx->iyx", np.array(geometry.matrix), p) + np.array(field)
    places += (np.array(centre) + geometry.shift_px)[:, None, None]
    # scipy's `mirror` is numpy's `reflect`.
    return ndimage.map_coordinates(image, places, order=order, mode="mirror"), places


@pytest.mark.parametrize(("nodes", "pixels"), [(3, 572), (3, 236), (2, 99), (5, 316)])
def test_field_is_scipys_cubic_spline_zoom(nodes, pixels):
    c = np.random.default_rng(0).normal(0, 10, (nodes, nodes))
    expected = ndimage.zoom(c, pixels / nodes, order=3)
    basis = elastic.spline_matrix(nodes, pixels)
    np.testing.assert_allclose(basis @ torch.from_numpy(c) @ basis.T, expected, atol=1e-10)
    single = basis.float() @ torch.from_numpy(c).float() @ basis.float().T
    assert np.abs(single.numpy() - expected).max() <= 6e-6
    # The nodes are passed through, the outer ones on the corners.
    assert expected[0, 0] == pytest.approx(c[0, 0])


@pytest.mark.parametrize("seed", range(4))
def test_warp_is_what_scipy_makes_of_the_same_geometry(seed):
    geometry = elastic.sample_geometry(generator(seed), ALL)
    image, centre = noise_image(seed=seed), (61.3, 17.8)
    tile, target, border = one(image, geometry, 76, 44, centre)
    for channel, read in zip(image.numpy(), tile.numpy(), strict=True):
        expected, places = by_scipy(channel, geometry, centre, 76, order=1)
        # Neighbours differ by up to 1, so an error of e px is one of up to 2 e in the value.
        assert np.abs(read - expected).max() < 2e-4
    middle = slice(16, 60)
    expected, _ = by_scipy(image[-1].numpy() * 12, geometry, centre, 76, order=1)
    assert np.abs(border.numpy() - expected[middle, middle]).max() < 3e-3
    labels = sample(image).target.numpy()
    expected, places = by_scipy(labels, geometry, centre, 76, order=0)
    clear = (np.abs(places % 1 - 0.5) > 1e-3).all(axis=0)  # not half way between two pixels
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(
        target.numpy()[clear[middle, middle]], expected[middle, middle][clear[middle, middle]]
    )


@pytest.mark.parametrize("seed", range(3))
def test_image_target_and_border_move_alike(seed):
    y, x = torch.meshgrid(torch.arange(120.0), torch.arange(120.0), indexing="ij")
    target = (((y // 15) + (x // 20)) % 3 == 0).to(torch.uint8) * 255
    layers = Sample(
        target[None].float(),
        target,
        target.float(),
        (70.2, 33.9),
        elastic.sample_geometry(generator(seed), ALL),
    )
    image, moved, border = (tiles[0] for tiles in elastic.warp([layers], 100, 60))
    inner = image[0, 20:80, 20:80]
    # Image and border come from patches of different size: their coordinates round differently.
    assert (border - inner).abs().max() < 0.05
    sure = (inner < 1) | (inner > 254)  # all four neighbours agree
    assert sure.float().mean() > 0.7
    assert torch.equal(moved[sure].float(), inner[sure].round() // 254 * 255)
    assert 0.1 < (moved == 255).float().mean() < 0.9


@pytest.mark.parametrize(
    ("shape", "centre", "input_px", "output_px"),
    [
        ((2, 90, 120), (40.5, 50.5), 60, 28),  # inside
        ((1, 50, 64), (0.5, 63.5), 60, 28),  # over a corner
        ((3, 40, 30), (10.5, 20.5), 188, 100),  # larger than the image, mirrored many times
        ((1, 31, 47), (15.0, 3.0), 61, 21),  # odd
        ((1, 1, 40), (0.5, 7.5), 12, 4),  # one row: it is its own mirror image
        ((1, 2, 2), (1.5, 0.5), 20, 20),
    ],
)
def test_identity_is_the_image_itself_and_beyond_it_numpys_reflect(
    shape, centre, input_px, output_px
):
    image = noise_image(shape)
    if shape[1] == 1:
        centre = (0.5, centre[1])
    tile, target, border = one(image, IDENTITY, input_px, output_px, centre)
    start = [math.ceil(along - (input_px - 1) / 2) for along in centre]
    margin = 200
    window = [slice(margin + s, margin + s + input_px) for s in start]
    edge = (input_px - output_px) // 2
    inner = [slice(s.start + edge, s.start + edge + output_px) for s in window]

    def reflected(layer):
        return np.pad(layer.numpy(), margin, mode="reflect")

    for channel, read in zip(image, tile, strict=True):
        np.testing.assert_array_equal(read, reflected(channel)[tuple(window)])
    made = sample(image)
    np.testing.assert_array_equal(target, reflected(made.target)[tuple(inner)])
    np.testing.assert_array_equal(border, reflected(made.border)[tuple(inner)])


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (((-1.0, 0.0), (0.0, 1.0)), lambda tile: tile.flip(-2)),
        (((1.0, 0.0), (0.0, -1.0)), lambda tile: tile.flip(-1)),
        (((0.0, 1.0), (1.0, 0.0)), lambda tile: tile.mT),
        (((0.0, -1.0), (1.0, 0.0)), lambda tile: torch.rot90(tile, -1, (-2, -1))),
    ],
)
def test_mirrors_and_quarter_turns_are_exact(matrix, expected):
    image = noise_image()
    geometry = Geometry(IDENTITY.displacement_px, matrix, (0.0, 0.0))
    for before, after in zip(
        one(image, IDENTITY, 60, 28), one(image, geometry, 60, 28), strict=True
    ):
        assert torch.equal(after, expected(before))


def test_a_whole_shift_reads_the_shifted_window():
    image = noise_image()
    shifted = one(image, Geometry(IDENTITY.displacement_px, IDENTITY.matrix, (3.0, -7.0)), 40, 20)
    moved = one(image, IDENTITY, 40, 20, centre=(43.5, 43.5))
    for one_tile, other in zip(shifted, moved, strict=True):
        assert torch.equal(one_tile, other)


def test_geometry_follows_its_settings():
    draws = [elastic.sample_geometry(generator(seed), ALL) for seed in range(300)]
    nodes = torch.stack([draw.displacement_px for draw in draws])
    assert nodes.shape == (300, 2, 3, 3)
    assert float(nodes.std()) == pytest.approx(10, rel=0.03)
    assert abs(float(nodes.mean())) < 0.5
    shifts = np.array([draw.shift_px for draw in draws])
    assert (np.abs(shifts).max(axis=0) > 14).all()
    assert (np.abs(shifts).max(axis=0) <= 15).all()
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.2
    matrices = np.array([draw.matrix for draw in draws])
    determinants = np.linalg.det(matrices)
    assert 0.4 < (determinants < 0).mean() < 0.6
    factors = np.sqrt(np.abs(determinants))
    assert 1 / 1.2 <= factors.min() < 0.86
    assert 1.17 < factors.max() <= 1.2
    # Without rotation, the eight symmetries of the square and nothing else.
    flips = [elastic.sample_geometry(generator(s), {"flips": True}).matrix for s in range(100)]
    assert len({tuple(map(tuple, np.round(m))) for m in flips}) == 8
    assert np.isin(np.abs(flips), (0, 1)).all()
    turned = [
        elastic.sample_geometry(generator(s), {"rotation_deg": 20}).matrix for s in range(200)
    ]
    angles = [math.degrees(math.atan2(m[1][0], m[0][0])) for m in turned]
    assert -20 <= min(angles) < -18
    assert 18 < max(angles) <= 20
    off = elastic.sample_geometry(generator(0), {})
    assert off.matrix == IDENTITY.matrix
    assert off.shift_px == IDENTITY.shift_px
    assert not off.displacement_px.any()


def test_the_same_seed_gives_the_same_tiles_and_what_is_off_changes_nothing_else():
    image = noise_image()
    first, again, other = (
        one(image, elastic.sample_geometry(generator(seed), ALL), 60, 28) for seed in (1, 1, 2)
    )
    for tile, same, different in zip(first, again, other, strict=True):
        assert torch.equal(tile, same)
        assert not torch.equal(tile, different)
    running = generator(3)
    elastic.sample_geometry(running, ALL)
    second = elastic.sample_geometry(running, ALL)
    running = generator(3)
    elastic.sample_geometry(running, {})
    partly = elastic.sample_geometry(running, {"elastic_sigma_px": 10})
    assert torch.equal(second.displacement_px, partly.displacement_px)


def test_a_batch_is_its_samples_one_by_one():
    samples = [
        sample(noise_image((2, 90 + 30 * i, 120), i), elastic.sample_geometry(generator(i), ALL))
        for i in range(3)
    ]
    together = elastic.warp(samples, 60, 28)
    assert [tuple(tiles.shape) for tiles in together] == [(3, 2, 60, 60), (3, 28, 28), (3, 28, 28)]
    assert [tiles.dtype for tiles in together] == [torch.float32, torch.uint8, torch.float32]
    for i, alone in enumerate(samples):
        images, targets, borders = elastic.warp([alone], 60, 28)
        torch.testing.assert_close(together[0][i], images[0], atol=2e-4, rtol=0)
        torch.testing.assert_close(together[2][i], borders[0], atol=3e-3, rtol=0)
        assert (together[1][i] == targets[0]).float().mean() > 0.99


def test_integer_images_and_autocast_give_the_float32_tiles():
    whole = (noise_image() * 65535).to(torch.uint16)
    geometry = elastic.sample_geometry(generator(0), ALL)
    tile = one(whole.float(), geometry, 60, 28)[0]
    assert torch.equal(one(whole, geometry, 60, 28)[0], tile)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(one(whole, geometry, 60, 28)[0], tile)


def test_nothing_outside_the_patch_is_looked_at(monkeypatch):
    image, empty = noise_image(), torch.empty
    geometries = [elastic.sample_geometry(generator(seed), ALL) for seed in range(8)]
    before = [one(image, geometry, 60, 28, (5.0, 110.0)) for geometry in geometries]
    monkeypatch.setattr(torch, "empty", lambda *size, **more: empty(*size, **more).fill_(torch.nan))
    for geometry, tiles in zip(geometries, before, strict=True):
        for tile, same in zip(one(image, geometry, 60, 28, (5.0, 110.0)), tiles, strict=True):
            assert torch.equal(tile, same)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_reads_the_same_tiles_without_a_host_sync():
    geometry = elastic.sample_geometry(generator(0), ALL)
    there = sample(noise_image(), geometry)
    here = elastic.warp([there], 60, 28)
    on_gpu = [
        there._replace(**{k: getattr(there, k).cuda() for k in ("image", "target", "border")})
    ]
    elastic.warp(on_gpu, 60, 28)  # fills the caches
    torch.cuda.set_sync_debug_mode("error")
    try:
        tiles = elastic.warp(on_gpu, 60, 28)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(tiles[0].cpu(), here[0], atol=2e-4, rtol=0)
