"""The study of the paper's figures: its files agree with each other and with the root's, and its figures add up."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_models import change_card, write_model

from distort_pipeline.commands.params import SECTIONS, parse_section
from distort_pipeline.data.files import read_json
from distort_pipeline.data.images import decode
from distort_pipeline.models.store import ValidationHistograms
from studies.paper_figures import figures
from studies.paper_figures.train import DISTORTION, settings_of

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "studies" / "paper_figures"
DVC = yaml.safe_load((STUDY / "dvc.yaml").read_text())
PARAMS = yaml.safe_load((STUDY / "params.yaml").read_text())


def dependencies(stages, name):
    body = stages["stages"][name]
    return {dep for dep in body.get("do", body)["deps"] if not dep.startswith("${ingest")}


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)


def test_its_stages_depend_on_files_that_exist():
    code = DVC["vars"][0]["code"]
    for stage in DVC["stages"]:
        for dep in dependencies(DVC, stage):
            assert dep.startswith("build/") or (STUDY / dep.replace("${code}", code)).exists(), f"{stage}: {dep}"
    assert (STUDY / PARAMS["ingest"]["source"]).is_dir()


@pytest.mark.parametrize("stage", ["ingest", "pairs", "train"])
def test_a_stage_depends_on_the_code_and_the_version_that_the_roots_stage_depends_on(stage):
    root = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    assert {dep for dep in dependencies(DVC, stage) if dep.startswith("${code}")} == {
        dep for dep in dependencies(root, stage) if dep.startswith("${code}")
    }
    body = DVC["stages"][stage]
    assert {"${code}/steps/__init__.py": [stage.upper()]} in body.get("do", body)["params"]


@pytest.mark.parametrize("run", PARAMS["runs"])
def test_a_run_follows_the_paper_and_has_its_curve(run):
    settings = settings_of(run, STUDY / "params.yaml")
    assert (settings.codec_prior, settings.noise_channels, settings.select_checkpoint) == ("none", 0, "last")
    assert f"build/models/{run}/live/plots/metrics/jsd_nss.tsv" in yaml.safe_dump(DVC["plots"])


@pytest.mark.parametrize("section", ["ingest", "pairs"])
def test_the_settings_of_the_other_sections_are_known(section):
    parse_section(SECTIONS[section], PARAMS[section])


def test_runs_differ_in_their_losses_alone():
    losses = {"adversarial_weight", "lambda_l1", "pixel_weight", "pixel_norm"}
    assert all(set(changes) <= losses for changes in PARAMS["runs"].values())
    settings = [settings_of(run, STUDY / "params.yaml") for run in PARAMS["runs"]]
    assert [run.lambda_l1 for run in settings if run.adversarial_weight] == [0, 0.01, 0.1, 1, 10]
    assert [run.pixel_norm for run in settings if run.pixel_weight] == ["l1", "l2"]


def test_figures_show_existing_runs():
    for figure in ("figure3", "figure4"):
        assert set(PARAMS["figures"][figure]) <= set(PARAMS["runs"])


def test_the_identity_baseline_is_too_weak_and_the_truth_is_exact():
    pristine, true = [noise(1), noise(2)], [noise(1) // 2, noise(2) // 2]
    exact = figures.means(pristine, true, true)
    assert (exact["jsd_nss"], exact["delta_psnr_db"], exact["psnr_true_db"]) == (0, 0, 60)
    assert exact["detail"] == pytest.approx(0.25, rel=0.02)  # half the contrast, squared; whole 8-bit levels
    identity = figures.means(pristine, true, pristine)
    assert identity["psnr_db"] == 60
    assert identity["delta_psnr_db"] > 40
    assert identity["detail"] == 1


def test_a_drawing_has_a_column_for_each_and_the_residuals_below():
    pristine = noise(1)
    drawn = figures.drawing(pristine, pristine, {"lambda 1: 0.1": pristine}, identity_bits=0.2, side_px=32)
    grey = (drawn == 128).all(axis=2)
    below, above = grey[-36:], grey[-72:-36]
    assert below.sum() == 3 * 32 * 32  # nothing was changed
    assert not above.any()


def test_models_become_a_table_metrics_and_both_figures(pair_store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pair_store.folder, tmp_path / "build" / "pairs")
    params = {
        "runs": {run: PARAMS["runs"][run] for run in ("lambda_10", "l2")},
        "figures": {"figure3": ["lambda_10"], "figure4": ["lambda_10", "l2"], "image": 0, "side_px": 64},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    counts = np.ones((1, 103), np.int64)
    for run in params["runs"]:
        folder = tmp_path / "build" / "models" / run
        write_model(folder, DISTORTION, ValidationHistograms(counts, counts, counts, np.zeros(1, np.int64), 256))
        settings = read_json(folder / "store.json")["settings"]
        change_card(folder, settings={**settings, "train": dataclasses.asdict(settings_of(run, STUDY / "params.yaml"))})
    figures.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[1:]] == ["| lambda 10", "| l2 alone", "| *pristine*", "| *true JPEG*"]
    out = tmp_path / "build" / "figures"
    assert set(read_json(out / "metrics.json")["runs"]) == set(params["runs"])
    shapes = [decode((out / f"{name}.png").read_bytes())[0].shape for name in ("figure3", "figure4")]
    assert shapes[0][0] == shapes[1][0] > 2 * 64
    assert shapes[0][1] < shapes[1][1]
