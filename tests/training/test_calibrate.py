"""The calibration of a multi-level generator in its card."""

import numpy as np
import pytest

from distort_pipeline.config import CALIBRATED
from distort_pipeline.data.severity_search import expected, severity_for
from distort_pipeline.metrics.full_reference import psnr, ssim
from distort_pipeline.records import to_uint8
from distort_pipeline.training.validation import calibrate

SEEDS = (11, 12, 13)


class Grain:
    """A multi-level generator: white noise of up to `most` levels; `stuck` changes nothing below a severity of 0.2."""

    def __init__(self, most=40.0, stuck=0.0):
        self.most, self.stuck = most, stuck

    def distort(self, images, seeds, severities, _significances=None):
        distorted = [
            image + self.most * max(severity - self.stuck, 0) * np.random.default_rng(seed).normal(size=image.shape)
            for image, seed, severity in zip(images, seeds, severities, strict=True)
        ]
        return to_uint8(np.stack(distorted))


class Unsteady(Grain):
    """A generator milder at 0.5 than at 0.45."""

    def distort(self, images, seeds, severities, _significances=None):
        return super().distort(images, seeds, [0.3 if severity == 0.5 else severity for severity in severities])


@pytest.fixture(scope="module")
def tiles():
    y, x = np.mgrid[:64, :64]
    return np.stack([
        to_uint8(np.stack([120 + 40 * np.sin((x + 9 * number) / 7), 90 + y, 130 + 20 * np.cos(x * y / 200)], axis=2))
        for number in range(len(SEEDS))
    ])  # fmt: skip


def test_means_are_those_of_the_tiles_at_that_severity(tiles):
    calibration = calibrate(Grain(), tiles, SEEDS, highest=1.0)
    assert calibration["severity"] == pytest.approx(np.arange(21) / 20)
    distorted = Grain().distort(tiles, SEEDS, [0.75] * 3)
    for measure, function in (("psnr", psnr), ("ssim", ssim)):
        mean = np.mean([function(clean, bad) for clean, bad in zip(tiles, distorted, strict=True)])
        assert expected(calibration, measure, 0.75) == pytest.approx(mean, abs=1e-6)


def test_a_pristine_image_counts_60_db_and_quality_falls_from_there(tiles):
    calibration = calibrate(Grain(stuck=0.2), tiles, SEEDS, highest=1.0)
    assert (calibration["psnr"][:5], calibration["ssim"][:5], calibration["gmsd"][:5]) == ([60] * 5, [1] * 5, [0] * 5)
    for measure in CALIBRATED:
        assert severity_for(calibration, measure, calibration[measure][12]) == pytest.approx(0.6)


def test_a_step_back_is_levelled_in_every_measure(tiles):
    calibration, steady = (calibrate(kind(), tiles, SEEDS, highest=1.0) for kind in (Unsteady, Grain))
    for measure, worse in (("psnr", -1), ("ssim", -1), ("gmsd", 1)):
        assert np.all(np.diff(calibration[measure]) * worse >= 0)
        assert calibration[measure][9] == calibration[measure][10]
        assert calibration[measure][14:] == steady[measure][14:]


def test_measuring_again_gives_the_same(tiles):
    assert calibrate(Grain(), tiles, SEEDS, highest=1.0) == calibrate(Grain(), tiles, SEEDS, highest=1.0)
