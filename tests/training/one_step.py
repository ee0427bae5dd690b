"""One step of plain gradient descent on the backend of this process: run by test_backends, once for each backend.

Reads batch.npz (pristine, distorted, z0, z1, ...) and first.safetensors in the folder given, which the first run
writes; leaves BACKEND.safetensors, the state after the step with every gradient in it, and BACKEND.json, the losses.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np

from distort_pipeline.backend import backend_name
from distort_pipeline.stores.models import read_arrays, write_arrays
from distort_pipeline.training.backends import make_trainer
from distort_pipeline.training.gan import GANConfig

RATE = 0.05
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


def main(folder):
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
    print("imported:", *(name for name in ("jax", "tensorflow") if name in sys.modules))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
