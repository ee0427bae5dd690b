import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_models import card_of, write_card

from distort_pipeline.config import EvaluateConfig, IngestConfig, PairsConfig
from distort_pipeline.data.images import decode, encode_png
from distort_pipeline.data.manifests import read_manifest
from distort_pipeline.data.pairs import Recipe, open_pairs
from distort_pipeline.distortions import apply
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.metrics.jsd_nss import jsd_nss
from distort_pipeline.models.card import NetworkCard
from distort_pipeline.models.store import WEIGHTS, write_arrays
from distort_pipeline.records import PairRecord, make_rng, sample_seed
from distort_pipeline.reports.evaluation import SCATTERED
from distort_pipeline.reports.pages import in_bits
from distort_pipeline.steps import evaluate, ingest, pairs
from distort_pipeline.steps.evaluation_plan import plan_of

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
NAMES = ("canyon-wren", "roman-colosseum", "the-spices-of-life")
SIZES = ((256, 300), (290, 260), (257, 256))
SETTINGS = EvaluateConfig(side_by_side=1, c2st_steps=1, c2st_tiles=16, c2st_folds=2)
EXTERNAL = "faded-film"  # a distortion outside the registry
COLUMNS = ("jpeg", "white_noise", EXTERNAL)


@pytest.fixture(scope="module")
def pair_store(tmp_path_factory):
    """Three crops, two of them for validation, under two distortions and as external pairs, which an image lacks."""
    root = tmp_path_factory.mktemp("evaluate")
    for folder in ("pristine", "external"):
        (root / folder).mkdir()
    for name, (height, width) in zip(NAMES, SIZES, strict=True):
        image, _ = decode((SAMPLE / f"budgie-backgrounds__{name}.png").read_bytes())
        crop = image[60 : 60 + height, 100 : 100 + width]
        (root / "pristine" / f"{name}.png").write_bytes(encode_png(crop))
        (root / "external" / f"{name}.png").write_bytes(encode_png(cv2.GaussianBlur(crop, (0, 0), 1.5)))
    ingest.run(IngestConfig(source=str(root / "pristine"), val_count=2, workers=0), root / "manifest.jsonl")
    lacking = next(record for record in read_manifest(root / "manifest.jsonl").records if record.split == "val")
    (root / "external" / lacking.path).unlink()
    config = PairsConfig(
        distortions=("jpeg", "white_noise"),
        external={EXTERNAL: str(root / "external")},
        tile_px=256,
        tiles_per_image=1,
        tiles_per_shard=4,
        tiles_per_chunk=2,
        seed=5,
    )
    pairs.run(config, root / "manifest.jsonl", root / "pairs", workers=Workers(0))
    return root / "pairs"


def write_model(folder, distortion, parameters, *, noise=0.0):
    """A generator that returns the image itself, plus white noise of the standard deviation `noise` in 8-bit levels."""
    from distort_pipeline.models.store import weights_of
    from distort_pipeline.networks.generator import Architecture, build_generator

    channels = 3 if noise else 0
    weights = weights_of(build_generator(Architecture(base_filters=4, noise_channels=channels)))
    for name in ("decoder_7_up/kernel", "decoder_7_up/bias"):
        weights[name] = np.zeros_like(weights[name])
    if noise:
        kernel = np.zeros_like(weights["decoder_7_noise/kernel"])
        kernel[1, 1] = np.eye(3) * noise / 127.5
        weights["decoder_7_noise/kernel"] = kernel
    write_arrays(folder / WEIGHTS, weights)
    write_card(folder, card_of(distortion, [parameters], NetworkCard(4, channels), weights, steps=1))


@pytest.fixture(scope="module")
def evaluated(pair_store):
    """An evaluation of two identity generators and a generator of white noise of nearly the right severity."""
    models = pair_store.parent / "models"
    write_model(models / "jpeg", "jpeg", {"quality": 12})
    write_model(models / "noisy", "white_noise", {"sigma_8bit": 19}, noise=18)
    write_model(models / EXTERNAL, EXTERNAL, {})
    out = pair_store.parent / "evaluation"
    report = evaluate.run(SETTINGS, pair_store, models, out)
    return out, report


def metrics_of(out):
    return json.loads((out / "metrics.json").read_text(encoding="utf-8"))


def rows_of(out, **cells):
    """Return the rows of results.csv with these cells."""
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if all(row[name] == cell for name, cell in cells.items())]


def value_of(out, **cells):
    """Return the value in the only row of results.csv with these cells."""
    (row,) = rows_of(out, **cells)
    return float(row["value"])


def test_an_identity_generator_scores_exactly_the_identity_baseline(evaluated):
    metrics = metrics_of(evaluated[0])
    assert metrics["table"]["jpeg"] == metrics["pristine"]
    assert metrics["table"][EXTERNAL] == metrics["pristine"]
    assert metrics["models"]["jpeg"]["diagonal_dominant"] == 0  # no better than the identity baseline
    assert "psnr_generated" not in metrics["models"]["jpeg"]  # identical images have no PSNR
    assert metrics["models"]["jpeg"]["ssim_generated"] == 1


def test_cells_are_the_mean_over_images_of_the_divergence_and_images_without_the_distortion_do_not_count(
    evaluated, pair_store
):
    store, metrics = open_pairs(pair_store), metrics_of(evaluated[0])
    for column, images in (("jpeg", 2), (EXTERNAL, 1)):
        each = [jsd_nss(true, pristine) for _, pristine, true in store.validation(column)]
        assert len(each) == images
        assert metrics["pristine"][column] == pytest.approx(np.mean(each), abs=1e-6)


def test_white_noise_is_diagonal_dominant_independent_in_every_draw_and_of_its_severity(evaluated):
    metrics = metrics_of(evaluated[0])
    noisy = metrics["models"]["noisy"]
    assert noisy["diagonal_dominant"] == 1
    assert noisy["jsd_nss"] < 0.003 < 0.05 < noisy["jsd_nss_pristine"]
    assert abs(noisy["psnr_difference"] - 20 * np.log10(19 / 18)) < 0.1
    assert abs(noisy["draw_correlation_generated"]) < 0.02
    assert noisy["draw_variance_ratio"] == pytest.approx((18 / 19) ** 2, rel=0.03)
    generated, true = (
        value_of(evaluated[0], generator="noisy", statistic="residual_spectral_slope", measured=measured)
        for measured in ("generated", "true")
    )
    assert generated == pytest.approx(true, abs=0.05)


def test_the_noise_floor_of_noise_is_between_the_stored_draw_and_a_second_draw(evaluated, pair_store):
    out = evaluated[0]
    each = []
    for record, pristine, true in open_pairs(pair_store).validation("white_noise"):
        seed = sample_seed(5, record.image_digest, "white_noise", 1, draw=1)
        each.append(jsd_nss(true, apply("white_noise", pristine, {"sigma_8bit": 19}, make_rng(seed)).image))
    jsd_nss_rows = {"generator": "", "statistic": "jsd", "component": "d1_1"}
    floor = value_of(out, distortion="white_noise", measured="true again", **jsd_nss_rows)
    assert floor == pytest.approx(np.mean(each), abs=1e-6)
    assert {row["distortion"] for row in rows_of(out, measured="true again")} == {"white_noise"}  # no other is random
    content = {row["distortion"]: float(row["value"]) for row in rows_of(out, compared_with="true on other images")}
    assert set(content) == {"jpeg", "white_noise"}  # a single image has the external distortion
    assert 0 < floor < content["white_noise"]


def test_everything_a_reader_needs_lies_in_the_folder(evaluated):
    out, report = evaluated
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    per_model = {
        file.format(name)
        for name in ("jpeg", "noisy", EXTERNAL)
        for file in (
            "side_by_side/{}.png",
            *(f"plots/{plot}_{{}}.svg" for plot in ("histogram", "histogram_log", "spectrum", "grid", *SCATTERED)),
        )
    }
    assert files == per_model | {"plots/c2st_jpeg.svg", "plots/c2st_noisy.svg"} | {
        "store.json", "files.json", "run.json", "metrics.json", "results.csv", "index.html"
    }  # fmt: skip
    noisy = value_of(
        out, generator="noisy", distortion="white_noise", measured="generated", statistic="jsd", component="d1_1"
    )
    assert in_bits(noisy) in next(line for line in report.lines if line.startswith("noisy"))
    assert (report.counts["models"], report.counts["images"], report.counts["diagonal_dominant"]) == (3, 2, 1)
    side_by_side, _ = decode((out / "side_by_side" / "noisy.png").read_bytes())
    assert side_by_side.shape[1] > 5 * 256


def test_each_row_of_the_results_is_a_figure_of_its_own(evaluated):
    rows = rows_of(evaluated[0])
    keys = [tuple(cell for name, cell in row.items() if name != "value") for row in rows]
    assert len(set(keys)) == len(keys)
    assert all(np.isfinite(float(row["value"])) for row in rows)
    for measured in ("pristine", "true", "generated"):
        shares = rows_of(evaluated[0], generator="noisy", statistic="histogram_share", measured=measured)
        assert len(shares) == 103
        assert sum(float(row["value"]) for row in shares) == pytest.approx(1, abs=1e-4)
    for statistic, count in {"amplitude": 16, "grid_step": 8, "autocorrelation": 24, "correlation": 3 + 2 * 3}.items():
        name = f"residual_{statistic}"
        assert len(rows_of(evaluated[0], generator="noisy", statistic=name, measured="generated")) == count


def test_nss_features_are_compared_with_the_identity_baseline_and_a_second_true_draw(evaluated):
    rows = rows_of(evaluated[0], statistic="jsd", component="cb", compared_with="true")
    assert {(row["measured"], row["generator"], row["distortion"]) for row in rows} == {
        *(("generated", name, column) for name in ("jpeg", "noisy", EXTERNAL) for column in COLUMNS),
        *(("pristine", "", column) for column in COLUMNS),
        ("true again", "", "white_noise"),
    }
    metrics = metrics_of(evaluated[0])
    for row in rows_of(evaluated[0], statistic="jsd", component="d1_1", compared_with="true"):
        column = row["distortion"]
        expected = {
            "generated": metrics["table"].get(row["generator"], {}).get(column),
            "pristine": metrics["pristine"][column],
            "true again": metrics["noise_floors"][column].get("redraw"),
        }
        assert float(row["value"]) == expected[row["measured"]]


def test_quality_is_listed_for_each_image_with_the_distortion(evaluated):
    out = evaluated[0]
    rows = rows_of(out, statistic="ssim_difference")
    assert [row["generator"] for row in rows] == ["jpeg"] * 3 + ["noisy"] * 3 + [EXTERNAL] * 2  # each with its mean
    for row in rows:
        at = {"generator": row["generator"], "image": row["image"], "statistic": "ssim"}
        difference = value_of(out, measured="generated", **at) - value_of(out, measured="true", **at)
        assert float(row["value"]) == pytest.approx(difference, abs=2e-6)


def test_a_repeated_evaluation_gives_the_same_bytes_and_a_finished_one_is_left_alone(evaluated, pair_store):
    out, report = evaluated
    models, other = pair_store.parent / "models", pair_store.parent / "again"
    evaluate.run(SETTINGS, pair_store, models, other)
    for path in out.rglob("*"):
        if path.is_file() and path.name != "run.json":
            assert path.read_bytes() == (other / path.relative_to(out)).read_bytes(), path.name
    before = (out / "metrics.json").stat().st_mtime_ns
    repeated = evaluate.run(SETTINGS, pair_store, models, out)
    assert (out / "metrics.json").stat().st_mtime_ns == before
    assert repeated.counts == report.counts
    assert any("nothing to do" in line for line in repeated.lines)
    with pytest.raises(PipelineError, match="other settings or inputs"):
        evaluate.run(EvaluateConfig(side_by_side=2), pair_store, models, out)


def test_c2st_has_an_identity_generator_and_a_random_one_with_its_diversity(evaluated):
    metrics = metrics_of(evaluated[0])
    rows = {(row["generator"], row["measured"]): row for row in rows_of(evaluated[0], statistic="c2st_accuracy")}
    # the distortion of the external pairs has a single image: too few for two folds
    assert {model for model, _ in rows} == {"jpeg", "noisy"}
    assert rows["noisy", "another true draw"]["images"] == "2"
    assert ("jpeg", "other true tiles") in rows
    assert metrics["models"]["noisy"]["c2st_accuracy"] == float(rows["noisy", "generated"]["value"])
    assert (
        metrics["models"]["noisy"]["diversity_matches"] == 0
    )  # (18/19)² is within 10 % of 1, and the clipped tails are not
    assert 0 <= metrics["tstr"]["tstr"] <= 1
    assert "ratio" not in metrics["tstr"]  # of two photographs


def test_without_c2st_steps_there_is_no_c2st_and_a_deterministic_generator_of_noise_repeats_itself(
    pair_store, tmp_path
):
    write_model(tmp_path / "models" / "jpeg", "jpeg", {"quality": 12})
    write_model(tmp_path / "models" / "frozen", "white_noise", {"sigma_8bit": 19})
    evaluate.run(EvaluateConfig(side_by_side=0, c2st_steps=0), pair_store, tmp_path / "models", tmp_path / "out")
    figures, page = metrics_of(tmp_path / "out")["models"], (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "c2st_accuracy" not in figures["jpeg"]
    assert not rows_of(tmp_path / "out", statistic="c2st_accuracy")
    assert "classifier" not in page.split('<h2 id="provenance')[0]
    assert (figures["frozen"]["diversity_matches"], figures["frozen"]["draw_variance_ratio"]) == (0, 0)
    assert "repeats its noise" in page


def test_generators_of_one_level_have_no_severity_sweep(evaluated):
    assert "sweeps" not in metrics_of(evaluated[0])
    assert 'id="sweep"' not in (evaluated[0] / "index.html").read_text(encoding="utf-8")  # nor a file, see above


@pytest.mark.parametrize(
    ("distortion", "parameters", "said"),
    [("jpeg", {"quality": 43}, "learned jpeg with"), ("jp2k", {"ratio": 150}, "no pairs of 'jp2k'")],
)
def test_a_model_without_pairs_of_its_distortion_is_refused(pair_store, tmp_path, distortion, parameters, said):
    write_model(tmp_path / "models" / "odd", distortion, parameters)
    with pytest.raises(PipelineError, match=said):
        evaluate.run(EvaluateConfig(), pair_store, tmp_path / "models", tmp_path / "out")
    assert not (tmp_path / "out").exists()


class TwoLevels:
    """The part of a pair store for a plan, with JPEG at two levels and noise without a model."""

    folder = Path("pairs")
    distortions = ("jpeg", "white_noise")

    def recipes(self, distortion):
        values = {"jpeg": [("quality", 43), ("quality", 12)], "white_noise": [("sigma_8bit", 9), ("sigma_8bit", 19)]}
        return [
            Recipe(distortion, level, level - 1, {name: value})
            for level, (name, value) in enumerate(values[distortion], start=1)
        ]

    def levels(self, distortion):
        return tuple(recipe.level for recipe in self.recipes(distortion))

    def records(self, split):
        plain = {"split": split, "shard": 0, "slot": 0, "image_digest": "", "y": 0, "x": 0, "level_index": 0}
        return [
            PairRecord(
                **plain, image=image, height=side, width=300, distortion=distortion, level=level, seed=0,
                parameters="{}", facts="{}",
            )
            for image, side in (("a", 300), ("tiny", 20))
            for distortion in self.distortions
            for level in (1, 2)
        ]  # fmt: skip


def test_models_of_two_levels_get_a_column_each_found_by_parameters_and_tiny_images_are_counted():
    cards = {f"jpeg{quality}": card_of("jpeg", [{"quality": quality}]) for quality in (12, 43)}
    plan = plan_of(TwoLevels(), cards)
    assert [column.name for column in plan.columns] == ["jpeg-1", "jpeg-2", "white_noise"]
    assert plan.learned == {"jpeg12": "jpeg-2", "jpeg43": "jpeg-1"}
    assert {column: record.level for column, record in plan.images["a"].items()} == {
        "jpeg-1": 1, "jpeg-2": 2, "white_noise": 1
    }  # fmt: skip
    assert (list(plan.images), plan.too_small) == (["a"], 1)
    single = plan_of(TwoLevels(), {"only": cards["jpeg12"]})
    assert [(column.name, column.level) for column in single.columns] == [("jpeg", 2), ("white_noise", 1)]
