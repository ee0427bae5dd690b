import keras
import numpy as np
import pytest
import tensorflow as tf

from distort_pipeline.networks import losses
from distort_pipeline.networks.inputs import GeneratorInputs
from distort_pipeline.records import normalize

pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture(scope="module")
def batch(pair_store):
    """Two crops, pristine and distorted, 8 bits, and their severities."""
    pairs = [pair_store[index] for index, record in enumerate(pair_store.records()) if record.distortion == "jpeg"][:2]
    crops = (np.stack([getattr(p, name)[:128, :128] for p in pairs]) for name in ("pristine", "distorted"))
    return (*crops, np.array([[0.5], [1.0]], np.float32))


def weights(network):
    return [np.asarray(variable) for variable in network.variables]


def test_a_step_lowers_each_loss(trainer, batch):
    x, y = (tf.constant(normalize(pixels)) for pixels in batch[:2])
    noises = trainer._noises(tf.constant(0, tf.int64))
    before = trainer.state()
    fake = trainer.generator(GeneratorInputs(x, noises).listed(), training=True)
    old_d = keras.models.clone_model(trainer.discriminator)
    old_d.set_weights(trainer.discriminator.get_weights())
    trainer.restore(before)
    logged = {name: float(value) for name, value in trainer.step(*batch, 0).items()}

    def hinge(network, generated):
        return float(losses.discriminator_hinge(network([x, y], training=True), network([x, generated], training=True)))

    assert logged["discriminator_loss"] == pytest.approx(hinge(old_d, fake), rel=1e-4)
    assert hinge(trainer.discriminator, fake) < logged["discriminator_loss"]

    def generator_loss(generated):
        adversarial = losses.generator_adversarial(trainer.discriminator([x, generated], training=True))
        return float(adversarial + 0.1 * losses.l1_loss(generated, x, span=255.0, reduction="mean"))

    # G's loss is measured through the D that has just been updated
    assert logged["generator_loss"] == pytest.approx(generator_loss(fake), rel=1e-4)
    assert logged["adversarial"] != pytest.approx(
        float(losses.generator_adversarial(old_d([x, fake], training=True))), rel=1e-3
    )
    new = trainer.generator(GeneratorInputs(x, noises).listed(), training=True)
    assert generator_loss(new) < logged["generator_loss"]


def test_what_a_step_reports_adds_up(trainer, batch):
    logged = {name: float(value) for name, value in trainer.step(*batch, 0).items()}
    assert logged["generator_loss"] == pytest.approx(logged["adversarial"] + 0.1 * logged["l1"], rel=1e-5)
    residual = np.abs(batch[1].astype(float) - batch[0]).mean()
    assert logged["true_residual"] == pytest.approx(residual, rel=1e-3)  # 8-bit levels
    assert logged.keys() == {
        *("generator_loss", "adversarial", "l1", "discriminator_loss", "logit_gap", "true_residual")
    }


def test_the_discriminator_learns_to_discriminate(trainer, batch):
    gaps = [float(trainer.step(*batch, step)["logit_gap"]) for step in range(8)]
    assert np.mean(gaps[-3:]) > np.mean(gaps[:3])


def test_a_step_depends_on_the_state_the_batch_and_its_number(trainer, batch):
    first = trainer.state()
    trainer.step(*batch, 7)
    stepped = trainer.state()
    trainer.restore(first)
    trainer.step(*batch, 7)
    assert all(np.array_equal(stepped[name], array) for name, array in trainer.state().items())
    trainer.restore(first)
    trainer.step(*batch, 8)  # other noise
    assert not all(np.array_equal(stepped[name], array) for name, array in trainer.state().items())


def test_the_average_follows_the_generator(trainer, batch):
    assert all(
        np.array_equal(a, b) for a, b in zip(weights(trainer.ema_generator), weights(trainer.generator), strict=True)
    )
    start = weights(trainer.generator)
    trainer.step(*batch, 0)
    decay = 1 / 10  # (1 + 0) / (10 + 0): early on the average is nearly the generator
    for old, new, average in zip(start, weights(trainer.generator), weights(trainer.ema_generator), strict=True):
        np.testing.assert_allclose(average, decay * old + (1 - decay) * new, atol=1e-6)
    late = weights(trainer.ema_generator)
    trainer.step(*batch, 10**6)
    for old, new, average in zip(late, weights(trainer.generator), weights(trainer.ema_generator), strict=True):
        np.testing.assert_allclose(average, 0.9 * old + 0.1 * new, atol=1e-5)


def test_the_state_is_all_there_is_and_fits_any_trainer_of_its_settings(trainer, make_trainer):
    state = trainer.state()
    other = make_trainer(seed=4)
    assert other.state().keys() == state.keys()
    other.restore(state)  # the optimisers of a later trainer must not be called otherwise
    assert all(np.array_equal(state[name], array) for name, array in other.state().items())
    with pytest.raises((KeyError, ValueError)):
        make_trainer(base_filters=3).restore(state)
    with pytest.raises(KeyError):
        make_trainer(noise_channels=2, base_filters=2).restore({})


def test_the_seed_decides_the_first_weights(trainer, make_trainer):
    first, same = trainer.state(), make_trainer().state()
    assert all(np.array_equal(same[name], array) for name, array in first.items())
    name = next(name for name in first if "encoder_1_conv" in name)
    assert not np.array_equal(make_trainer(seed=4).state()[name], first[name])


def test_without_an_adversary_only_the_pixel_loss_trains_and_the_discriminator_rests(make_trainer, batch):
    trainer = make_trainer(adversarial_weight=0.0, pixel_weight=1.0, pixel_norm="l2", lambda_l1=0.0)
    before = [np.asarray(weight) for weight in trainer.discriminator.weights]
    logged = [trainer.step(*batch, step) for step in range(4)]
    assert set(logged[0]) == {"true_residual", "l1", "pixel_distance", "generator_loss"}
    assert float(logged[-1]["pixel_distance"]) < float(logged[0]["pixel_distance"])
    assert all(np.array_equal(old, new) for old, new in zip(before, trainer.discriminator.weights, strict=True))


def test_with_several_levels_both_networks_get_the_severity(make_trainer, batch):
    trainer = make_trainer(levels=2)
    assert [entry.name for entry in trainer.generator.inputs][:2] == ["pristine", "severity"]
    pristine, distorted, severities = batch
    state = trainer.state()
    first = float(trainer.step(pristine, distorted, severities, 0)["discriminator_loss"])
    trainer.restore(state)
    repeated = float(trainer.step(pristine, distorted, severities, 0)["discriminator_loss"])
    trainer.restore(state)
    swapped = float(trainer.step(pristine, distorted, severities[::-1], 0)["discriminator_loss"])
    assert first == repeated
    assert swapped != first
