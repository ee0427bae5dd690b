"""The compact network: zero at the start, local, and on the codecs' grid."""

from __future__ import annotations

import numpy as np
import pytest

from distort_pipeline.networks.compact import (
    NOISE_CHANNELS,
    REACH_PX,
    CompactSize,
    NetworkBatch,
    Shuffle,
    Unshuffle,
    build_compact_discriminator,
    network_inputs,
    new_body,
    position_maps,
    scene_statistics,
)
from distort_pipeline.networks.losses import power_mismatch

SMALL = CompactSize(8, 8, 8, 8)


def _inputs(side: int, offset: int = 0) -> list:
    rng = np.random.default_rng(0)
    field = rng.uniform(0, 255, (1, 512, 512, 3)).astype(np.float32)[:, offset : offset + side, offset : offset + side]
    noise = np.zeros_like(field)
    free = np.zeros((1, side, side, NOISE_CHANNELS - 3), np.float32)
    position = np.full((1, 2), offset, np.float32)
    sizes = np.full((1, 2), 512, np.float32)
    return network_inputs(NetworkBatch(field, field, noise, free, np.zeros((1, 4), np.float32), position, sizes), 2.0)


def test_step_zero_is_the_initialization() -> None:
    assert not np.asarray(new_body(SMALL)(_inputs(64))).any()


def test_shuffling_is_undone() -> None:
    pixels = np.random.default_rng(0).standard_normal((2, 16, 24, 3)).astype(np.float32)
    assert np.array_equal(Shuffle(8)(Unshuffle(8)(pixels)), pixels)


def test_a_tile_is_a_part_of_the_whole_but_for_its_borders() -> None:
    network = new_body(SMALL, precision="float32")
    rng = np.random.default_rng(1)
    for variable in network.variables:
        variable.assign(rng.standard_normal(variable.shape) * 0.1)
    whole = np.asarray(network(_inputs(384)))[0]
    tile = np.asarray(network(_inputs(256, offset=64)))[0]
    inside = slice(REACH_PX, -REACH_PX)
    assert np.allclose(tile[inside, inside], whole[64:320, 64:320][inside, inside], atol=1e-4)


def test_positions_tell_the_place_in_the_grid() -> None:
    maps = np.asarray(position_maps(np.array([[16.0, 32.0]]), np.array([[512.0, 512.0]]), 64, 64))
    again = np.asarray(position_maps(np.array([[0.0, 0.0]]), np.array([[512.0, 512.0]]), 64, 64))
    assert np.allclose(maps[..., :6], again[..., :6], atol=1e-5)
    assert not np.allclose(maps[..., 6], again[..., 6])


def test_power_mismatch_sees_strength_and_not_the_draw() -> None:
    rng = np.random.default_rng(0)
    pristine = rng.uniform(0, 255, (8, 64, 64, 3)).astype(np.float32)
    one, other = (3 * rng.standard_normal(pristine.shape).astype(np.float32) for _ in range(2))
    same, weak = (float(power_mismatch(one, residual, pristine)) for residual in (other, 0.7 * other))
    assert same < 0.02
    assert weak == pytest.approx(np.log(0.49) ** 2, rel=0.3)


def test_the_discriminator_decides_cell_by_cell() -> None:
    discriminator = build_compact_discriminator(size=SMALL, precision="float32")
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (2, 64, 96, 3)).astype(np.float32)
    position = position_maps(np.zeros((2, 2)), np.full((2, 2), 96.0), 64, 96)
    logits, features = discriminator([image / 127.5 - 1, np.zeros_like(image), image, np.asarray(position)])
    assert logits.shape == (2, 4, 6, 1)
    assert features.shape == (2, 4, 6, 16)


def test_scene_statistics_are_those_of_the_paper_where_there_is_contrast() -> None:
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.normal(128, 20, (1, 64, 64, 1)), 3, axis=-1).astype(np.float32)
    mscn, deviation = (np.asarray(part)[0, 8:-8, 8:-8, 0] for part in scene_statistics(grey))
    assert mscn.mean() == pytest.approx(0, abs=0.05)
    assert 0.7 < mscn.std() < 1.1  # of white noise nearly 1
    assert np.exp(deviation).mean() == pytest.approx(20, rel=0.15)
