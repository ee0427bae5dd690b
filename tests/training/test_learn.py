"""What learning keeps: the best that was learned, and the identity baseline never."""

import dataclasses

import numpy as np
import pytest

from distort_pipeline.networks import codec_bank
from distort_pipeline.networks.codec_bank import Codec
from distort_pipeline.networks.composed import ComposedGenerator
from distort_pipeline.networks.diffusion import Diffusion
from distort_pipeline.networks.jpeg_stage import JpegStage
from distort_pipeline.networks.patches import PairPatch
from distort_pipeline.records import to_uint8
from distort_pipeline.training import compose_fit, loop
from distort_pipeline.training import learn as learn_module
from distort_pipeline.training.compose_fit import PartsFit
from distort_pipeline.training.learn import LearnData, LearnSettings, NotBetterThanIdentity, learn

FITS_ALONE = LearnSettings(minutes=None, mean_steps=0, adversarial_steps=0)


@pytest.fixture(autouse=True)
def tone_alone(monkeypatch):
    """Of the parts only curves are tried: filters take longer, and explain these pairs no better."""
    tried = [candidate for candidate in compose_fit._candidates() if candidate.name in ("tone", "tone per image")]
    monkeypatch.setattr(compose_fit, "_candidates", lambda: tried)


@pytest.fixture(scope="module")
def unlike() -> LearnData:
    """Pairs that no generator explains: on held-out images, anything learned is worse than the pristine image."""
    rng = np.random.Generator(np.random.PCG64(3))
    images = rng.integers(0, 256, (8, 96, 96, 3), np.uint8)
    fitted = [PairPatch(x, 255 - x, image, 0, 0, 96, 96) for image, x in enumerate(images[:4])]
    held = [PairPatch(x, x, image, 0, 0, 96, 96) for image, x in enumerate(images[4:])]
    return LearnData(fitted, held, [(p.pristine, p.distorted) for p in fitted])


def test_a_codec_is_found_behind_a_tone_curve(sample_images, tmp_path, monkeypatch):
    codec = Codec("WEBP", 30)
    families = [family for family in codec_bank.available() if family.name in ("JPEG", "JPEG2000", "WEBP")]
    monkeypatch.setattr(codec_bank, "available", lambda: families)  # to try all of them takes most of the time
    images = [image[:192, :256] for image in sample_images.values()]
    pairs = [(x, codec.encode(to_uint8(np.round(x / 28.0) * 28.0), np.random.default_rng(0))) for x in images]
    patches = [PairPatch(x, y, image, 0, 0, *x.shape[:2]) for image, (x, y) in enumerate(pairs)]
    generator, report = learn(LearnData(patches[:4], patches[4:], pairs[4:]), FITS_ALONE, tmp_path)
    assert generator.codec is not None
    assert generator.codec.name == "WEBP"
    assert abs(generator.codec.quality - 30) < 15
    assert generator.linear
    assert report.kept.startswith("parts, WEBP")
    assert report.parts


def test_a_diffusion_is_kept_only_where_noise_completes_it(sample_images, tmp_path, monkeypatch):
    smoother = Diffusion(np.full((2, 7, 11), 0.02, np.float32), coupled=True)

    def fits(*_, smooth=True, **__):
        return ComposedGenerator(linear=(smoother,) if smooth else ()), PartsFit(("diffusion",) * smooth, 40.0, 60.0)

    monkeypatch.setattr(learn_module, "fit_composed", fits)
    for others in ("related_codecs", "smaller_codecs", "displacements"):
        monkeypatch.setattr(learn_module, others, lambda *_: [])
    rng = np.random.default_rng(0)
    images = [image[:192, :256] for image in sample_images.values()]
    pairs = [(x, to_uint8(x + 8 * rng.standard_normal(x.shape))) for x in images]
    patches = [PairPatch(x, y, image, 0, 0, *x.shape[:2]) for image, (x, y) in enumerate(pairs)]
    generator, report = learn(LearnData(patches[:4], patches[4:], pairs[4:]), FITS_ALONE, tmp_path)
    assert report.kept == "noise without a diffusion, one gain"
    assert generator.linear == report.parts == ()
    assert "parts" in [row.stage for row in report.stages]


def test_refuses_what_is_worse_than_the_identity_and_keeps_it_with_keep_anyway(unlike, tmp_path, monkeypatch):
    monkeypatch.setattr(learn_module, "related_codecs", lambda _: [])  # none would be better, and all are tried
    with pytest.raises(NotBetterThanIdentity, match="--keep-anyway"):
        learn(unlike, FITS_ALONE, tmp_path)
    generator, report = learn(unlike, FITS_ALONE, tmp_path, keep_anyway=True)
    assert report.better_than_identity is False
    assert report.kept not in ("identity", "nothing")
    assert any(part for part in (generator.linear, generator.noise, generator.codec)), "a generator that does something"


@pytest.mark.usefixtures("eager")
def test_without_an_adversary_all_the_time_is_for_the_mean(unlike, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "TIMED_STEPS", 1)
    settings = LearnSettings(minutes=0.01, adversarial_steps=0, crop_px=32, batch=1)
    files = JpegStage(np.ones((8, 8), int), np.ones((8, 8), int), "4:4:4")  # which say that the codec is known
    _, report = learn(dataclasses.replace(unlike, jpeg=files), settings, tmp_path, keep_anyway=True)
    assert any(row.stage.startswith("mean, kept ") for row in report.stages)
    assert report.adversarial_steps == 0
    assert not any("adversary" in row.stage for row in report.stages)


@pytest.mark.usefixtures("eager")
def test_the_mean_is_left_where_it_was_nearest_on_held_out_images(unlike, tmp_path, monkeypatch):
    distances = iter([3.0, 1.0, 2.0])  # at steps 0, 1 and 2
    monkeypatch.setattr(learn_module.Stages, "l1", lambda *_: next(distances))
    settings = LearnSettings(minutes=None, mean_steps=2, adversarial_steps=0, crop_px=32, batch=1, validate_every=1)
    files = JpegStage(np.ones((8, 8), int), np.ones((8, 8), int), "4:4:4")
    left, consider = {}, learn_module.Stages.consider

    def considered(stages, name, generator, **options):
        if generator.body is not None:
            left[name] = {v.path: np.array(v) for v in generator.body.network.variables}
        return consider(stages, name, generator, **options)

    monkeypatch.setattr(learn_module.Stages, "consider", considered)
    learn(dataclasses.replace(unlike, jpeg=files), settings, tmp_path, keep_anyway=True)
    kept = loop.BestWeights(tmp_path / learn_module.STAGES / "mean")
    assert kept.step() == 1
    assert all(np.array_equal(left["mean, kept 1"][path], best) for path, best in kept.weights().items())


def test_towards_the_mean_nothing_hides_behind_the_codec():
    from distort_pipeline.training.compact import CompactCrops, CompactNetwork, CompactSettings

    grey = np.full((32, 32, 3), 128, np.uint8)
    coarse = JpegStage(np.full((8, 8), 99), np.full((8, 8), 99), "4:4:4")
    network = CompactNetwork(CompactSettings(), residual_scale=5.0, jpeg=coarse)
    head = network.network.get_layer("head")
    head.bias.assign(0.01 * np.resize([1.0, -1.0], 12))  # alternates from pixel to pixel, half a coarse step at most
    batch = CompactCrops([PairPatch(grey, grey, 0, 0, 0, 32, 32)], [grey], crop_px=32, batch=1, seed=0).at(0)
    assert np.ptp(np.asarray(network.generate(batch, stochastic=True))) < 0.01
    assert np.ptp(np.asarray(network.generate(batch, stochastic=False))) > 2


def test_training_goes_back_to_the_best_and_ends_where_nothing_is_gained():
    from distort_pipeline.training import compact

    network = compact.CompactNetwork(compact.CompactSettings(), residual_scale=5.0, jpeg=None)
    trainer = compact.AdversarialTrainer(network, compact.CompactSettings(), steps=100)
    trainer.moving, returns = True, []
    trainer.validated(1.0, lambda: pytest.fail("it is the best so far"))

    def best():
        returns.append(trainer.rate)
        return [np.zeros_like(variable) for variable in network.averaged.variables]

    while trainer.goes_on:
        trainer.validated(2.0, best)
        assert len(returns) < 5
    assert returns == [1.0, 0.5]
    assert not any(np.any(variable) for variable in network.network.variables)
    other = compact.AdversarialTrainer(network, compact.CompactSettings(), steps=100)
    other.restore(trainer.state())
    assert not other.goes_on, "an ended training stays ended"


def test_the_head_start_belongs_to_the_network_and_leaves_the_residual_at_0():
    from distort_pipeline.models.store import read_arrays
    from distort_pipeline.networks.compact import INITIALISATION, new_body

    weights = read_arrays(INITIALISATION)[0]
    assert {name: array.shape for name, array in weights.items()} == {v.path: v.shape for v in new_body().variables}
    assert not weights["head/kernel"].any()
    assert weights["fine_a/kernel"].any()
