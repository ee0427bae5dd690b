"""evaluate with multi-level generators and a generator of a single level."""

import csv
import json

import numpy as np
import pytest
from five_level_pairs import five_level_pairs
from small_models import card_of, write_card

from distort_pipeline.config import EvaluateConfig
from distort_pipeline.metrics import classifier
from distort_pipeline.models.card import NetworkCard
from distort_pipeline.models.store import WEIGHTS, write_arrays
from distort_pipeline.steps import evaluate

SIGMAS = (5, 10, 19)
SETTINGS = EvaluateConfig(side_by_side=1, c2st_steps=0)


@pytest.fixture(scope="module")
def pair_store(tmp_path_factory):
    """Three crops, two of them for validation, under two distortions at the first three of five levels."""
    return five_level_pairs(tmp_path_factory.mktemp("multi_level"), ("jpeg", "white_noise"), (1, 2, 3), val_count=2)


def write_noise(folder, learned, generated):
    """A generator with `learned` deviations of white noise in its card, in 8-bit levels; its output has `generated`."""
    from distort_pipeline.models.store import weights_of
    from distort_pipeline.networks.generator import Architecture, build_generator

    weights = weights_of(
        build_generator(Architecture(base_filters=0, noise_channels=3, noise_pyramid=True, levels=len(generated)))
    )
    path = "noise_pyramid/octaves"
    matrices = np.zeros_like(weights[path])
    matrices[:, -1] = np.eye(3) * np.array(generated)[:, None, None] / 127.5  # the finest octave alone is white
    weights = {**weights, path: matrices}
    write_arrays(folder / WEIGHTS, weights)
    levels = [{"sigma_8bit": sigma} for sigma in learned]
    write_card(folder, card_of("white_noise", levels, NetworkCard(0, 3, noise_pyramid=True), weights))


@pytest.fixture(scope="module")
def evaluated(pair_store):
    """An evaluation of a good multi-level generator, of one with two levels swapped, and of one with a single level."""
    models = pair_store.parent / "models"
    write_noise(models / "monotone", SIGMAS, SIGMAS)
    write_noise(models / "swapped", SIGMAS, (5, 19, 10))
    write_noise(models / "fixed", (19,), (19,))
    out = pair_store.parent / "evaluation"
    return out, evaluate.run(SETTINGS, pair_store, models, out)


@pytest.fixture(scope="module")
def metrics(evaluated):
    return json.loads((evaluated[0] / "metrics.json").read_text(encoding="utf-8"))


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_table_has_a_multi_level_model_at_its_default_level(metrics):
    assert set(metrics["table"]["monotone"]) == {"jpeg", "white_noise"}
    assert metrics["models"]["monotone"]["diagonal_dominant"] == 1
    assert metrics["table"]["monotone"] == metrics["table"]["fixed"]  # the same noise, at the last level of both
    assert metrics["models"]["monotone"]["jsd_nss"] == metrics["sweeps"]["monotone"]["levels"]["0.5"]["jsd_nss"]


def test_each_level_is_compared_with_the_truth_of_its_parameters(metrics):
    levels = metrics["sweeps"]["monotone"]["levels"]
    assert list(levels) == ["0.275", "0.387", "0.5"]
    for level, sigma in zip(levels.values(), SIGMAS, strict=True):
        assert level["jsd_nss"] < 4 * level["noise_floor"] < level["jsd_nss_pristine"]
        assert level["psnr_true"] == pytest.approx(20 * np.log10(255 / sigma), abs=0.6)
        assert abs(level["psnr_difference"]) < 0.1
    assert levels["0.5"]["noise_floor"] == metrics["noise_floors"]["white_noise"]["redraw"]
    swapped = metrics["sweeps"]["swapped"]["levels"]
    assert swapped["0.387"]["psnr_difference"] == pytest.approx(20 * np.log10(10 / 19), abs=0.4)  # clipped


def test_a_midpoint_is_nearer_than_either_level_or_not(metrics):
    good, swapped = (metrics["sweeps"][name] for name in ("monotone", "swapped"))
    assert good["midpoints_nearest"] == 2
    assert list(good["midpoints"]) == ["0.331", "0.443"]
    for midpoint in good["midpoints"].values():
        assert midpoint["jsd_nss"] < min(midpoint["jsd_nss_level_below"], midpoint["jsd_nss_level_above"])
        assert abs(midpoint["psnr_difference"]) < 0.1
    assert good["midpoints"]["0.331"]["psnr_true"] == pytest.approx(20 * np.log10(255 / 7.18), abs=0.3)
    assert swapped["midpoints_nearest"] == 1  # half-way from 19 down to 10 is 14.5 as well


def test_quality_falls_along_the_severity_scale_from_the_pristine_image(metrics):
    good, swapped = (metrics["sweeps"][name] for name in ("monotone", "swapped"))
    assert (good["falling_share"], good["psnr_untouched"], good["tiles"]) == (1, 60, 2)
    assert good["true_falling_share"] == good["falling_levels_share"] == good["true_falling_levels_share"] == 1
    assert (swapped["falling_share"], swapped["psnr_untouched_least"]) == (0, 60)
    assert (swapped["falling_levels_share"], swapped["true_falling_levels_share"]) == (0, 1)


def test_tstr_of_severity_is_written_beside_trtr_and_levels_without_pairs_are_counted(
    pair_store, tmp_path, monkeypatch
):
    monkeypatch.setattr(classifier, "RESAMPLINGS", 40)
    write_noise(tmp_path / "models" / "monotone", SIGMAS, SIGMAS)
    write_noise(tmp_path / "models" / "severe", (10, 19, 36), (10, 19, 36))
    settings = EvaluateConfig(side_by_side=0, c2st_steps=1, c2st_tiles=24, c2st_folds=2)
    report = evaluate.run(settings, pair_store, tmp_path / "models", tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    figures = metrics["severity_tstr"]
    rows = [row for row in rows_of(tmp_path / "out" / "results.csv") if row["statistic"].endswith("srcc")]
    assert [(row["distortion"], row["statistic"], row["tiles"]) for row in rows] == [
        ("white_noise", "tstr_srcc", "24"), ("white_noise", "trtr_srcc", "24"),
    ]  # fmt: skip
    assert float(rows[0]["value"]) == figures["white_noise"]["tstr"]
    assert float(rows[0]["low"]) - 0.0005 <= float(rows[0]["value"]) <= float(rows[0]["high"]) + 0.0005  # rounded
    assert "Severity regression" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert any(line.startswith("1 learned level of severe without pairs") for line in report.lines)
    assert list(metrics["sweeps"]["severe"]["levels"]) == ["0.387", "0.5"]
    assert list(metrics["sweeps"]["severe"]["midpoints"]) == ["0.443", "0.559"]  # midpoints need no pairs


def test_a_generator_of_one_level_has_no_severity_sweep(metrics, evaluated):
    assert set(metrics["sweeps"]) == {"monotone", "swapped"}
    rows = [
        (row["generator"], row["component"])
        for row in rows_of(evaluated[0] / "results.csv")
        if row["severity"] and row["statistic"] == "jsd" and row["measured"] == "generated"
    ]
    levels = [row for row in rows if row[1].startswith("level")]
    assert levels[:3] == [("monotone", f"level sigma_8bit {sigma}") for sigma in SIGMAS]
    assert len(rows) - len(levels) == 4


def test_the_page_and_the_terminal_report_failed_goals_of_a_sweep(evaluated):
    out, report = evaluated
    page = (out / "index.html").read_text(encoding="utf-8")
    section = page[page.index('id="sweep"') : page.index('id="charts"')]
    assert section.count("<svg") == 2 * 2
    assert "below the goal of 99 %" in section
    assert "goal 45 dB" in section
    assert "At 2 of 2 midpoints" in section
    assert any(
        line.startswith("severity sweep of monotone: JSD_NSS by level") and "in 100.0% of tiles" in line
        for line in report.lines
    )
