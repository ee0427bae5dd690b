"""The study for a GPU: its tiles come back as they were packed, and its JSD_NSS is the package's."""

import numpy as np
import pytest

from distort_pipeline.distortions import apply
from distort_pipeline.metrics.jsd_nss import jsd_nss
from distort_pipeline.records import make_rng
from studies.gpu import run


@pytest.fixture(scope="module")
def tiles(sample_images):
    return np.stack([image[:256, :256] for image in list(sample_images.values())[:2]])


def test_packed_tiles_come_back(tiles, tmp_path):
    run._write_tiles(tmp_path / "tiles.xz", tiles)
    assert np.array_equal(run.read_tiles(tmp_path / "tiles.xz"), tiles)


def test_jsd_nss_without_opencv_is_the_packages(tiles):
    for name, parameters in (("jpeg", {"quality": 12}), ("white_noise", {"sigma_8bit": 19})):
        distorted = apply(name, tiles[0], parameters, make_rng(0)).image
        assert run.jsd_nss(tiles[0], distorted) == pytest.approx(jsd_nss(tiles[0], distorted), abs=1e-3)


def test_noises_are_made_where_they_are_trained(tiles):
    noisy = run.noisy("white_noise", tiles)
    assert 15 < (noisy.astype(float) - tiles)[:, 64:, 64:].std() < 20
    assert not np.array_equal(noisy[0].astype(int) - tiles[0], noisy[1].astype(int) - tiles[1])
