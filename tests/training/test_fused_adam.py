import keras
import numpy as np
import tensorflow as tf

from distort_pipeline.training.tensorflow_step import FusedAdam

RATES = {"learning_rate": 3e-4, "beta_1": 0.5, "beta_2": 0.999}


def trained(kind, *, steps):
    rng = np.random.default_rng(0)
    weights = [keras.Variable(rng.normal(size=shape).astype(np.float32)) for shape in ((4, 4, 3, 8), (8,))]
    optimizer = kind(**RATES)
    optimizer.build(weights)

    @tf.function(autograph=False)
    def step(*gradients):
        optimizer.apply(list(gradients), weights)

    for _ in range(steps):
        step(*(tf.constant(rng.normal(size=tuple(w.shape)).astype(np.float32) ** 3) for w in weights))
    return [np.asarray(variable) for variable in (*weights, *optimizer.variables)]


def test_it_is_the_adam_of_keras():
    for steps in (1, 20):
        usual, fused = (trained(kind, steps=steps) for kind in (keras.optimizers.Adam, FusedAdam))
        assert len(usual) == len(fused) == 8  # two weights, steps, rate, two moments of each weight
        for expected, actual in zip(usual, fused, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=1e-7)


def test_weights_move():
    assert not np.array_equal(trained(FusedAdam, steps=1)[0], trained(FusedAdam, steps=2)[0])
