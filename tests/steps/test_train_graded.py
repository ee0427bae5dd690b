"""train with several levels: what the card says of the dial."""

import numpy as np
import pytest
from ladder_pairs import ladder_pairs

from distort_pipeline.config import TrainConfig
from distort_pipeline.statistics.calibrated import CALIBRATED, expected, severity_for
from distort_pipeline.statistics.full_reference import psnr
from distort_pipeline.steps import train
from distort_pipeline.stores.models import read_card
from distort_pipeline.stores.pairs import open_pairs
from distort_pipeline.trained import load_generator

FIT_ONLY = TrainConfig(steps=0, base_filters=4, discriminator_filters=2, crop_px=256, batch=2, validation_tiles=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """White noise at two levels of the ladder, read off two crops, and one level of it alone."""
    root = tmp_path_factory.mktemp("graded")
    ladder_pairs(root, ("white_noise",), (2, 4), val_count=1)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(root)  # out of any DVC project
        both = TrainConfig(**{**vars(FIT_ONLY), "levels": (2, 4)})
        train.run(both, root / "pairs", root / "graded", distortion="white_noise")
        train.run(FIT_ONLY, root / "pairs", root / "single", distortion="white_noise")
    return root


def test_the_card_holds_a_calibration_that_the_generator_keeps(trained):
    card = read_card(trained / "graded")
    found = card["calibration"]
    assert set(found) == {"severity", *CALIBRATED}
    assert found["severity"] == pytest.approx(np.arange(21) / 20)
    assert (found["psnr"][0], found["ssim"][0], found["gmsd"][0]) == (60, 1, 0)
    assert expected(found, "psnr", 0.5) == pytest.approx(20 * np.log10(255 / 10), abs=0.6)
    assert expected(found, "psnr", 1) == pytest.approx(20 * np.log10(255 / 36) + 1.5, abs=0.6)  # much is clipped
    severity = severity_for(found, "psnr", 24)
    assert 0.5 < severity < 1  # 24 dB are 16 greys, between 10 and 36
    (picture,) = {record.picture for record in open_pairs(trained / "pairs").records("val")}
    pristine = open_pairs(trained / "pairs").val_picture(picture)
    made = load_generator(trained / "graded", batch=1).forward.distort_picture(pristine, 7, severity)
    assert psnr(pristine, made) == pytest.approx(24, abs=0.3)


def test_one_level_has_none(trained):
    assert "calibration" not in read_card(trained / "single")
