"""train with several levels: the calibration in the card."""

import re

import numpy as np
import pytest
from click.testing import CliRunner
from five_level_pairs import five_level_pairs
from small_models import fit_quickly

from distort_pipeline.config import CALIBRATED, TrainConfig
from distort_pipeline.data.pairs import open_pairs
from distort_pipeline.data.severity_search import expected, severity_for
from distort_pipeline.metrics.full_reference import psnr
from distort_pipeline.models.card import read_card
from distort_pipeline.models.store import load_generator
from distort_pipeline.steps import train
from studies.severity import main as severity_study

FIT_ONLY = TrainConfig(steps=0, base_filters=4, discriminator_filters=2, crop_px=256, batch_size=2, validation_tiles=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Models of white noise at two of five levels, fitted to two crops, and at a single level."""
    root = tmp_path_factory.mktemp("multi_level")
    five_level_pairs(root, ("white_noise",), (2, 4), val_count=1)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(root)  # out of any DVC project
        fit_quickly(patched)
        both = TrainConfig(**{**vars(FIT_ONLY), "levels": (2, 4)})
        train.run(both, root / "pairs", root / "multi_level" / "noise", distortion="white_noise")
        train.run(FIT_ONLY, root / "pairs", root / "single" / "noise", distortion="white_noise")
    return root


def test_the_generator_agrees_with_the_calibration_in_its_card(trained):
    card = read_card(trained / "multi_level" / "noise")
    calibration = card.calibration
    assert set(calibration) == {"severity", *CALIBRATED}
    assert calibration["severity"] == pytest.approx(0.6191 * np.arange(21) / 20)
    assert (calibration["psnr"][0], calibration["ssim"][0], calibration["gmsd"][0]) == (60, 1, 0)
    assert expected(calibration, "psnr", 0.3865) == pytest.approx(20 * np.log10(255 / 10), abs=0.6)
    assert expected(calibration, "psnr", 0.6191) == pytest.approx(
        20 * np.log10(255 / 36) + 1.5, abs=0.6
    )  # much is clipped
    severity = severity_for(calibration, "psnr", 24)
    assert 0.3865 < severity < 0.6191  # 24 dB are 16 levels, between 10 and 36
    (image,) = {record.image for record in open_pairs(trained / "pairs").records("val")}
    pristine = open_pairs(trained / "pairs").val_image(image)
    generated = load_generator(trained / "multi_level" / "noise", batch_size=1).predictor.distort_image(
        pristine, 7, severity
    )
    assert psnr(pristine, generated) == pytest.approx(24, abs=0.3)


def test_a_model_of_one_level_has_no_calibration(trained):
    assert read_card(trained / "single" / "noise").calibration is None


def test_the_study_sets_every_level_beside_the_generator_that_learned_it_alone(trained):
    arguments = [str(trained / name) for name in ("pairs", "multi_level", "single")]
    completed = CliRunner().invoke(severity_study, arguments, catch_exceptions=False)
    lines = completed.output.splitlines()
    first, second = (next(line.split(" | ") for line in lines if f"sigma_8bit {sigma} " in line) for sigma in (10, 36))
    assert first[2] == first[3]  # the same least squares, once among two levels and once alone
    assert first[4] == "1.00"
    assert second[3] == second[4] == "–"  # nobody learned that one alone
    assert next(line.split(" | ")[5] for line in lines if "sigma_8bit 19.29 " in line) == "midpoint"
    assert (
        "- PSNR falls from level to level in 100.00% of tiles (true: 100.00%; of tiles with falling true PSNR 100.00%)"
        ", at every small step in 100.00%" in lines
    )
    for measure in ("psnr", "ssim"):
        errors = [
            float(number)
            for number in re.findall(r"mean absolute error ([0-9.]+)", next(x for x in lines if measure in x))
        ]
        assert len(errors) == 2  # by the calibration alone, and as generate meets it
        assert errors[1] <= errors[0] < 1.5
