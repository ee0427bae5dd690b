"""One step of plain gradient descent, fitted layers and a generator on the backend of this process.

test_backends runs `step` and `layers` on TensorFlow in its own process, and this file on JAX in another. `step` reads
batch.npz (pristine, distorted, z0, z1, ...) and first.safetensors in the folder given, which the first run writes; it
leaves BACKEND.safetensors, the state after the step with every gradient in it, and BACKEND.json, the losses.
"""

import json
import sys
from pathlib import Path
from unittest.mock import patch

import keras
import numpy as np

from distort_pipeline.models.store import load_generator, read_arrays, write_arrays
from distort_pipeline.networks.backend import backend_name
from distort_pipeline.networks.inputs import noise_shapes
from distort_pipeline.networks.jpeg_stage import JpegStage
from distort_pipeline.networks.layers import CoefficientCurves, NoisePyramid
from distort_pipeline.networks.patches import FREE_CHANNELS, LATENTS
from distort_pipeline.training import compact
from distort_pipeline.training.gan import GANConfig, make_trainer

RATE = 0.05
CHANNELS = {"distorted": 3, "noise": 3, "free": FREE_CHANNELS}
# Leaky ReLU has a kink: a value within rounding of 0 gets another slope on another backend, and moves small networks'
# gradients by a hundredth. With this seed and this batch none lies there.
SEED = 3
NETWORKS = GANConfig(
    base_filters=4, discriminator_filters=4, noise_channels=1, discriminator_input="scaled_residual",
    precision="float32", crop_px=128, batch_size=4, generator_lr=RATE, discriminator_lr=RATE, beta_1=0.5, beta_2=0.999,
    lambda_l1=0.1, l1_scale=255.0, l1_reduction="mean", ema_decay=0.9, seed=SEED, pixel_weight=0.01,
)  # fmt: skip


class RememberingDescent(keras.optimizers.Optimizer):
    """Gradient descent that keeps the gradients among its variables, and so in the state of a trainer.

    Adam would not do: where a gradient is small, it makes a full step of its sign, also of rounding noise.
    """

    def build(self, variables):
        super().build(variables)
        self.gradients = [self.add_variable_from_reference(variable, "gradient") for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        self.assign(self.gradients[self._get_variable_index(variable)], gradient)
        self.assign_sub(variable, learning_rate * gradient)


def step(folder):
    trainer, _ = make_trainer(NETWORKS)
    for role in ("generator", "discriminator"):
        optimizer = RememberingDescent(RATE, name=f"{role}_descent")
        optimizer.build(getattr(trainer, role).trainable_variables)
        setattr(trainer, f"{role}_optimizer", optimizer)
    first = folder / "first.safetensors"
    if not first.exists():
        write_arrays(first, trainer.state())
    trainer.restore(read_arrays(first)[0])
    with np.load(folder / "batch.npz") as batch:
        noises = [batch[f"z{scale}"] for scale in range(7)]
        trainer._noises = lambda _: [
            keras.ops.convert_to_tensor(noise) for noise in noises
        ]  # each backend has its own random generator
        figures = trainer.step(batch["pristine"], batch["distorted"], np.ones((NETWORKS.batch_size, 1), np.float32), 0)
    write_arrays(folder / f"{backend_name()}.safetensors", trainer.state())
    losses = {name: float(value) for name, value in figures.items()}
    (folder / f"{backend_name()}.json").write_text(json.dumps(losses), encoding="utf-8")


def compiled(layer):
    """The layer; on JAX as a single program: a compilation of each operation would take three times as long."""
    if backend_name() != "jax":
        return layer
    import jax

    return jax.jit(layer)


def layers(folder):
    """Write BACKEND.npz, the outputs of fitted layers for images.npy, to `folder`."""
    x = np.load(folder / "images.npy")[:2] / np.float32(127.5) - 1
    rng = np.random.default_rng(0)
    outputs = {}
    severity = np.array([[0.3], [0.8]], np.float32)
    for codec_prior, levels in (("dct", 2), ("dwt97", 1)):
        layer = CoefficientCurves(codec_prior, levels)
        layer.build((None, None, None, 3))
        for variable, curves in zip(layer.curves, layer.codec_prior.curves, strict=True):
            knots = curves.spacing * (np.arange(curves.knots) - (curves.knots - 1) / 2)
            heights = rng.uniform(0.5, 1, (variable.shape[0], curves.count, 1))  # about as steep as a codec's
            variable.assign((heights * np.sin(2 * np.pi * knots) / 8).astype(np.float32))
        if layer.codec_prior.scaled:
            layer.log_shares.assign(np.log(np.array([[0.05]], np.float32)))
        else:
            for steps in layer.log_steps:
                steps.assign(np.log(np.array([[8.0], [30.0]], np.float32) * np.ones((1, steps.shape[1]), np.float32)))
        outputs[codec_prior] = np.asarray(compiled(layer)([x, severity] if levels > 1 else x))
    layer = NoisePyramid(2)
    maps = [rng.standard_normal((len(x), *shape), dtype=np.float32) for shape in noise_shapes(*x.shape[1:3], 3)]
    layer.build([severity.shape, *(each.shape for each in maps)])
    layer.octaves.assign(rng.standard_normal(layer.octaves.shape).astype(np.float32))
    outputs["noise_pyramid"] = np.asarray(compiled(layer)([severity, *maps]))
    np.savez(folder / f"{backend_name()}.npz", **outputs)


def generate(folder):
    """Write BACKEND.npy, the model of `folder` on four images, to `folder`."""
    images = np.load(folder / "images.npy")
    predictor = load_generator(folder / "model", batch_size=2).predictor
    generated = predictor.distort(images, [1, 2, 3, 4])
    assert np.array_equal(predictor.distort_image(images[3], 4), generated[3])
    np.save(folder / f"{backend_name()}.npy", generated)


def compact_steps(folder):
    """Write BACKEND-compact.safetensors, the state of the small networks after three steps, and their losses."""
    with patch.object(compact, "bfloat16_is_faster", lambda: False):
        stage = JpegStage(np.full((8, 8), 8), np.full((8, 8), 12), "4:2:0")
        network = compact.CompactNetwork(compact.CompactSettings(), residual_scale=5.0, jpeg=stage)
    trainer = compact.AdversarialTrainer(network, compact.CompactSettings(warmup_steps=0, lost=100.0), steps=10)
    first = folder / "first-compact.safetensors"
    if not first.exists():
        write_arrays(first, trainer.state())
    trainer.restore(read_arrays(first)[0])
    rng, side = np.random.default_rng(0), 32
    x = np.load(folder / "images.npy")[:2, :side, :side].astype(np.float32)
    unit = {name: rng.standard_normal((2, side, side, channels), np.float32) for name, channels in CHANNELS.items()}
    batch = {
        "pristine": x, "base": x, "distorted": np.clip(x + 5 * unit["noise"], 0, 255), "noise": 4 * unit["distorted"],
        "free": unit["free"], "latent": rng.standard_normal((2, LATENTS), np.float32),
        "offsets": np.zeros((2, 2), np.float32), "sizes": np.full((2, 2), 256, np.float32),
    }  # fmt: skip
    losses = [{name: float(value) for name, value in trainer.step(batch, number).items()} for number in range(3)]
    (folder / f"{backend_name()}-compact.json").write_text(json.dumps(losses), encoding="utf-8")
    write_arrays(folder / f"{backend_name()}-compact.safetensors", network.state())


if __name__ == "__main__":
    for write in (step, layers, generate, compact_steps):
        write(Path(sys.argv[1]))
    print("imported:", *(name for name in ("jax", "tensorflow") if name in sys.modules))
