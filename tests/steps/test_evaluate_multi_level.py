"""evaluate with a generator that has learned several levels, beside one that has learned one."""

import csv
import json

import numpy as np
import pytest
from five_level_pairs import five_level_pairs

from distort_pipeline.config import EvaluateConfig
from distort_pipeline.steps import evaluate
from distort_pipeline.stores.files import write_json
from distort_pipeline.stores.models import KIND, VERSION, WEIGHTS, arrays_digest, write_arrays

SIGMAS = (5, 10, 19)
SETTINGS = EvaluateConfig(side_by_side=1, c2st_steps=0)


@pytest.fixture(scope="module")
def pair_store(tmp_path_factory):
    """Three crops, two of them for validation, under two distortions at the first three rungs of the ladder."""
    return five_level_pairs(tmp_path_factory.mktemp("multi_level"), ("jpeg", "white_noise"), (1, 2, 3), val_count=2)


def write_noise(folder, learned, made):
    """A generator that says that it learned white noise of the deviations `learned`, in greys, and makes `made`."""
    from distort_pipeline.networks.generator import build_generator
    from distort_pipeline.trained import weights_of

    network = {"base_filters": 0, "noise_channels": 3, "codec_prior": "none", "noise_pyramid": True}
    weights = weights_of(build_generator(**network, levels=len(made)))
    path = "noise_pyramid/octaves"
    matrices = np.zeros_like(weights[path])
    matrices[:, -1] = np.eye(3) * np.array(made)[:, None, None] / 127.5  # the finest octave alone is white
    weights = {**weights, path: matrices}
    write_arrays(folder / WEIGHTS, weights)
    levels = [
        {"level": rank, "parameters": {"sigma_grey": sigma}, "severity": rank / len(learned)}
        for rank, sigma in enumerate(learned, start=1)
    ]
    card = {
        "format": f"distort-pipeline/{KIND}", "version": VERSION, "distortion": "white_noise", "levels": levels,
        "network": network, "steps": 0, "weights_digest": arrays_digest(weights),
    }  # fmt: skip
    write_json(folder / "store.json", card)


@pytest.fixture(scope="module")
def evaluated(pair_store):
    """An evaluation of a good dial, of one that turns the wrong way in the middle, and of a generator without one."""
    models = pair_store.parent / "models"
    write_noise(models / "dial", SIGMAS, SIGMAS)
    write_noise(models / "crooked", SIGMAS, (5, 19, 10))
    write_noise(models / "fixed", (19,), (19,))
    out = pair_store.parent / "evaluation"
    return out, evaluate.run(SETTINGS, pair_store, models, out)


@pytest.fixture(scope="module")
def metrics(evaluated):
    return json.loads((evaluated[0] / "metrics.json").read_text(encoding="utf-8"))


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_table_of_all_holds_a_graded_model_at_its_usual_level(metrics):
    assert set(metrics["table"]["dial"]) == {"jpeg", "white_noise"}
    assert metrics["models"]["dial"]["nearest_own"] == 1
    assert metrics["table"]["dial"] == metrics["table"]["fixed"]  # the same noise, at severity 1 of both
    assert metrics["models"]["dial"]["jsd_nss"] == metrics["sweeps"]["dial"]["levels"]["1"]["jsd_nss"]


def test_each_level_is_held_against_the_truth_of_its_own_parameters(metrics):
    levels = metrics["sweeps"]["dial"]["levels"]
    assert list(levels) == ["0.333", "0.667", "1"]
    for level, sigma in zip(levels.values(), SIGMAS, strict=True):
        assert level["jsd_nss"] < 4 * level["sampling_floor"] < level["jsd_nss_pristine"]
        assert level["psnr_true"] == pytest.approx(20 * np.log10(255 / sigma), abs=0.6)
        assert abs(level["psnr_difference"]) < 0.1
    assert levels["1"]["sampling_floor"] == metrics["noise_floors"]["white_noise"]["sampling"]
    crooked = metrics["sweeps"]["crooked"]["levels"]
    assert crooked["0.667"]["psnr_difference"] == pytest.approx(20 * np.log10(10 / 19), abs=0.4)  # clipped


def test_between_levels_the_dial_is_nearer_than_either_neighbour_or_not(metrics):
    good, crooked = (metrics["sweeps"][name] for name in ("dial", "crooked"))
    assert good["between_nearest"] == 2
    assert list(good["between"]) == ["0.5", "0.833"]
    for place in good["between"].values():
        assert place["jsd_nss"] < min(place["jsd_nss_level_below"], place["jsd_nss_level_above"])
        assert abs(place["psnr_difference"]) < 0.1
    assert good["between"]["0.5"]["psnr_true"] == pytest.approx(20 * np.log10(255 / 7.5), abs=0.3)
    assert crooked["between_nearest"] == 1  # half-way from 19 down to 10 is 14.5 as well


def test_quality_falls_along_a_straight_dial_from_the_untouched_image(metrics):
    good, crooked = (metrics["sweeps"][name] for name in ("dial", "crooked"))
    assert (good["falling_share"], good["psnr_untouched"], good["tiles"]) == (1, 60, 2)
    assert good["true_falling_share"] == good["falling_levels_share"] == good["true_falling_levels_share"] == 1
    assert (crooked["falling_share"], crooked["psnr_untouched_least"]) == (0, 60)
    assert (crooked["falling_levels_share"], crooked["true_falling_levels_share"]) == (0, 1)


def test_what_the_dial_teaches_about_severity_is_written_beside_what_the_truth_does(pair_store, tmp_path):
    write_noise(tmp_path / "models" / "dial", SIGMAS, SIGMAS)
    settings = EvaluateConfig(side_by_side=0, c2st_steps=2, c2st_tiles=24, c2st_folds=2)
    evaluate.run(settings, pair_store, tmp_path / "models", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))["severity_tstr"]
    rows = rows_of(tmp_path / "out" / "severity_lesson.csv")
    assert [(row["true"], row["taught by"], row["tiles"]) for row in rows] == [
        ("white_noise", "generated", "24"), ("white_noise", "true", "24"),
    ]  # fmt: skip
    assert float(rows[0]["spearman"]) == found["white_noise"]["taught_by_generated"]
    assert "And how severe" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_a_generator_of_one_level_has_no_dial_anywhere(metrics, evaluated, pair_store, tmp_path):
    assert set(metrics["sweeps"]) == {"dial", "crooked"}
    rows = rows_of(evaluated[0] / "dial_levels.csv")
    assert [(row["model"], row["parameters"]) for row in rows[:3]] == [
        ("crooked", f"sigma_grey {sigma}") for sigma in SIGMAS
    ]
    assert len(rows_of(evaluated[0] / "dial_between.csv")) == 4
    write_noise(tmp_path / "models" / "fixed", (19,), (19,))
    evaluate.run(SETTINGS, pair_store, tmp_path / "models", tmp_path / "out")
    assert "sweeps" not in json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert not list((tmp_path / "out").glob("dial*"))
    assert 'id="dials"' not in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_the_page_and_the_terminal_say_what_speaks_against_a_dial(evaluated):
    out, report = evaluated
    page = (out / "index.html").read_text(encoding="utf-8")
    section = page[page.index('id="dials"') : page.index('id="charts"')]
    assert section.count("<svg") == 2 * 2
    assert "below the goal of 99 %" in section
    assert "goal 45 dB" in section
    assert "at 2 of 2 places" in section
    assert any(
        line.startswith("dial of dial: JSD_NSS by level") and "in 100.0% of tiles" in line for line in report.lines
    )


def test_the_same_again_gives_the_same_bytes(evaluated, pair_store):
    again = pair_store.parent / "again"
    evaluate.run(SETTINGS, pair_store, pair_store.parent / "models", again)
    for path in sorted(evaluated[0].rglob("*")):
        if path.is_file() and path.name != "run.json":
            assert path.read_bytes() == (again / path.relative_to(evaluated[0])).read_bytes(), path.name


def test_levels_that_the_pairs_lack_are_counted_and_the_rest_is_judged(pair_store, tmp_path):
    write_noise(tmp_path / "models" / "dial", (10, 19, 36), (10, 19, 36))
    report = evaluate.run(SETTINGS, pair_store, tmp_path / "models", tmp_path / "out")
    assert any(line.startswith("1 of the levels that dial has learned is not in the pairs") for line in report.lines)
    found = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))["sweeps"]["dial"]
    assert list(found["levels"]) == ["0.333", "0.667"]
    assert list(found["between"]) == ["0.5", "0.833"]  # no pairs are needed there
