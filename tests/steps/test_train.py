import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image as PILImage
from small_models import fit_quickly

from distort_pipeline.commands.inputs import pretrained
from distort_pipeline.config import TrainConfig
from distort_pipeline.data.files import arrays_digest
from distort_pipeline.errors import PipelineError
from distort_pipeline.models.card import NetworkCard, read_card
from distort_pipeline.models.store import WEIGHTS, load_generator, read_arrays, read_histograms
from distort_pipeline.steps import train as step

pytestmark = pytest.mark.usefixtures("eager")

TINY = TrainConfig(
    base_filters=4,
    discriminator_filters=2,
    crop_px=128,
    batch_size=2,
    steps=2,
    checkpoint_every=1,
    validate_every=1,
    validation_tiles=2,
)
PAPER = dataclasses.replace(TINY, codec_prior="none")


@pytest.fixture(scope="module")
def model(pair_store, tmp_path_factory):
    """A generator of JPEG by the paper's own network, after two steps."""
    out = tmp_path_factory.mktemp("models") / "jpeg"
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(out.parent)  # out of any DVC project
        report = step.run(PAPER, pair_store.folder, out, distortion="jpeg")
    return out, report


def test_a_training_gives_a_complete_model_folder(model):
    out, report = model
    assert report.counts["steps"] == 2
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files >= {
        *("store.json", "README.md", "run.json", WEIGHTS, "validation_histograms.npz"),
        *("side_by_side/00000001.png", "side_by_side/00000002.png"),
        *("live/plots/metrics/generator_loss.tsv", "live/plots/metrics/jsd_nss.tsv"),
    }
    assert not (out / "checkpoints").exists()
    assert [path.name for path in out.parent.iterdir()] == ["jpeg"]


def test_the_card_has_the_origin_and_the_figures(model, pair_store):
    out, report = model
    card = read_card(out)
    assert (card.distortion, card.external) == ("jpeg", False)
    (level,) = card.levels
    assert (level.level, level.parameters, level.severity) == (1, {"quality": 12}, 0.5)
    assert card.network == NetworkCard(4, 0)
    assert card.explained == {}  # nothing is fitted for the paper's network
    assert card.kept_step == 2
    assert not card.is_stochastic
    assert card.data.pairs_digest == pair_store.metadata.digest
    assert card.settings.train["generator_lr"] == 3e-4
    for name in ("jsd_nss", "jsd_nss_pooled", "jsd_nss_pristine"):
        assert getattr(card.figures, name) == report.counts[name]
        assert 0 <= getattr(card.figures, name) <= 1
    text = (out / "README.md").read_text(encoding="utf-8")
    assert "# Generator: jpeg" in text
    assert "quality 12" in text
    assert card.weights_digest in text


def test_the_weights_are_those_of_the_ema_generator_and_restore_it(model, pair_store):
    out, _ = model
    weights, _ = read_arrays(out / WEIGHTS)
    assert arrays_digest(weights) == read_card(out).weights_digest
    generator = load_generator(out, batch_size=2)
    assert generator.digest == arrays_digest(weights)
    assert load_generator(out, batch_size=2) is generator  # once in a process
    image = pair_store.val_image("maple-1")
    distorted = generator.predictor.distort_image(image, 0)
    assert distorted.shape == image.shape
    # two steps at 3e-4 from the identity: close to the image, but different
    assert 0 < np.abs(distorted.astype(int) - image).mean() < 100


def test_the_log_has_a_line_for_each_validation(model):
    out, _ = model
    with (out / "live/plots/metrics/jsd_nss.tsv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    assert [row[0] for row in rows] == ["step", "0", "1", "2"]
    with (out / "live/plots/metrics/true_residual.tsv").open(newline="", encoding="utf-8") as file:
        assert all(float(row["true_residual"]) > 1 for row in csv.DictReader(file, delimiter="\t"))


def test_side_by_sides_and_histograms_are_of_the_validation_images(model):
    out, _ = model
    with PILImage.open(out / "side_by_side/00000002.png") as side_by_side:
        assert side_by_side.width > 5 * 256
        assert side_by_side.height > 2 * 256  # a row for each of the two images
    (histograms,) = read_histograms(out)
    assert set(histograms.images.tolist()) == {0, 1}
    assert (histograms.true.sum(1) == 255 * 255).all()  # diagonal neighbours in a tile of 256 px
    assert not np.array_equal(histograms.true, histograms.pristine)


def test_a_second_run_has_nothing_to_do_and_another_setting_is_refused(model, pair_store):
    out, _ = model
    report = step.run(PAPER, pair_store.folder, out, distortion="jpeg")
    assert "already trained; nothing to do" in report.lines[0]
    with pytest.raises(PipelineError, match="already exists and was made with other settings"):
        step.run(TrainConfig(), pair_store.folder, out, distortion="jpeg")
    with pytest.raises(PipelineError, match="already exists and was made with other settings"):
        step.run(TINY, pair_store.folder, out, distortion="jpeg")


def test_a_distortion_that_the_store_lacks_is_named(pair_store, tmp_path):
    with pytest.raises(PipelineError, match=r"holds no pairs of 'jpge'; did you mean jpeg\?"):
        step.run(TINY, pair_store.folder, tmp_path / "m", distortion="jpge")
    assert not list(tmp_path.iterdir())


def copied(model, folder):
    for name in ("store.json", WEIGHTS):
        (folder / name).write_bytes((model[0] / name).read_bytes())
    return folder


def test_damaged_weights_are_not_used(model, tmp_path):
    folder = copied(model, tmp_path)
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-5] ^= 64
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(PipelineError, match="is damaged: its digest differs from the digest in the model card"):
        load_generator(folder, batch_size=2)


def test_a_model_that_was_trained_again_is_loaded_again(model, tmp_path):
    # a worker outlives the training that replaces the folder
    folder = copied(model, tmp_path)
    first = load_generator(folder, batch_size=2)
    weights, _ = read_arrays(folder / WEIGHTS)
    changed = {name: array + np.float32(0.01) for name, array in weights.items()}
    step.write_arrays(folder / WEIGHTS, changed)
    card = {**json.loads((folder / "store.json").read_text(encoding="utf-8")), "weights_digest": arrays_digest(changed)}
    (folder / "store.json").write_text(json.dumps(card), encoding="utf-8")
    second = load_generator(folder, batch_size=2)
    assert second.digest != first.digest
    assert not np.array_equal(second.predictor.model.get_weights()[0], first.predictor.model.get_weights()[0])


def test_weights_of_another_network_are_named(model, tmp_path):
    folder = copied(model, tmp_path)
    card = json.loads((folder / "store.json").read_text(encoding="utf-8"))
    card["network"]["base_filters"] = 2
    (folder / "store.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(PipelineError, match=r"encoder_1_conv/kernel is of shape \(4, 4, 3, 4\), the network needs"):
        load_generator(folder, batch_size=3)


@pytest.fixture(scope="module")
def fitted(pair_store, tmp_path_factory):
    """A model of white noise without any adversarial step."""
    out = tmp_path_factory.mktemp("fitted") / "white_noise"
    with pytest.MonkeyPatch.context() as patched:
        fit_quickly(patched)
        step.run(dataclasses.replace(TINY, steps=0), pair_store.folder, out, distortion="white_noise")
    return out


def test_without_steps_a_model_is_the_least_squares_fit(fitted):
    card = read_card(fitted)
    assert (card.kept_step, card.network.base_filters, card.network.noise_pyramid) == (0, 0, True)
    assert {path.split("/")[0] for path in read_arrays(fitted / WEIGHTS)[0]} == {"noise_pyramid"}
    assert card.figures.jsd_nss < 0.1 * card.figures.jsd_nss_pristine
    assert abs(card.figures.delta_psnr_db) < 1
    assert "no U-Net" in (fitted / "README.md").read_text(encoding="utf-8")


def test_a_fitted_model_generates(fitted, pair_store):
    predictor = load_generator(fitted, batch_size=1).predictor
    pristine = next(iter(pair_store.validation("white_noise")))[1]
    first, repeated, other = (predictor.distort_image(pristine, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, repeated)
    assert first.shape == pristine.shape
    assert np.mean(first != other) > 0.5


def test_without_steps_and_without_a_fit_there_is_no_model(pair_store, tmp_path):
    config = dataclasses.replace(TINY, steps=0, codec_prior="none")
    with pytest.raises(PipelineError, match=r"train.steps is 0"):
        step.run(config, pair_store.folder, tmp_path / "model", distortion="jpeg")


@pytest.mark.parametrize(("steps", "filters"), [(0, 0), (1, 4)])
def test_a_training_starts_from_another_model_with_or_without_a_u_net(fitted, pair_store, tmp_path, steps, filters):
    config = dataclasses.replace(TINY, steps=steps, select_checkpoint="last")
    step.run(config, pair_store.folder, tmp_path / "next", distortion="white_noise", init_from=fitted)
    card = read_card(tmp_path / "next")
    assert card.settings.init_from == read_card(fitted).weights_digest
    assert card.network == dataclasses.replace(read_card(fitted).network, base_filters=filters)
    matrices, initial = (
        read_arrays(folder / WEIGHTS)[0]["noise_pyramid/octaves"] for folder in (tmp_path / "next", fitted)
    )
    np.testing.assert_allclose(matrices, initial, rtol=1e-6)
    assert f"digest of the weights {read_card(fitted).weights_digest}" in (tmp_path / "next/README.md").read_text(
        "utf-8"
    )


def test_an_initial_model_that_stays_the_best_keeps_its_u_net(fitted, pair_store, tmp_path):
    config = dataclasses.replace(TINY, steps=1, select_checkpoint="last", discriminator_warmup_steps=0)
    step.run(config, pair_store.folder, tmp_path / "first", distortion="white_noise", init_from=fitted)
    spoiling = dataclasses.replace(config, select_checkpoint="best", generator_lr=1.0)
    step.run(spoiling, pair_store.folder, tmp_path / "next", distortion="white_noise", init_from=tmp_path / "first")
    first, card = (read_card(tmp_path / name) for name in ("first", "next"))
    assert card.kept_step == 0
    assert card.network.base_filters == 4
    assert card.weights_digest == first.weights_digest
    assert card.figures == first.figures


@pytest.mark.parametrize("changes", [{"base_filters": 2}, {"noise_channels": 1}, {"codec_prior": "dct"}])
def test_an_initial_model_of_other_networks_is_refused(model, pair_store, tmp_path, changes):
    ((name, value),) = changes.items()
    with pytest.raises(PipelineError, match=f"train.{name} is {value}, but .*jpeg has"):
        step.run(
            dataclasses.replace(TINY, **changes),
            pair_store.folder,
            tmp_path / "m",
            distortion="jpeg",
            init_from=model[0],
        )
    assert not list(tmp_path.iterdir())


def test_blocks_of_an_initial_model_stay_on_their_grid(pair_store, tmp_path):
    config = dataclasses.replace(TINY, crop_align=1)
    with pytest.raises(PipelineError, match="crop_align has to be 16, got 1"):
        step.run(config, pair_store.folder, tmp_path / "m", distortion="jpeg", init_from=pretrained("jpeg"))
