"""Several devices: MirroredStrategy, on one processor split in two, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import json
import numpy as np
import distort_pipeline.networks
import tensorflow as tf

devices = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
from distort_pipeline.training import tensorflow_step as step

tf.config.run_functions_eagerly(True)  # a single step: compiling it would take most of the time
step._strategy = lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
trainer = step.TensorflowTrainer(step.GANConfig(
    base_filters=2, discriminator_filters=2, noise_channels=1, discriminator_input="plain", precision="float32",
    crop_px=128, batch_size=4, generator_lr=3e-4, discriminator_lr=1e-4, beta_1=0.5, beta_2=0.999, lambda_l1=0.1,
    l1_scale=255.0, l1_reduction="mean", ema_decay=0.9, seed=1))
pristine = np.random.default_rng(0).integers(0, 240, (4, 128, 128, 3), np.uint8)
losses = [trainer.step(pristine, pristine + 9, np.ones((4, 1), np.float32), number) for number in range(2)]
copies = [np.stack([np.asarray(copy) for copy in variable.value.values])
          for variable in trainer.generator.trainable_variables]
print(json.dumps({
    "losses": [{name: float(value) for name, value in found.items()} for found in losses],
    "replicas": trainer.strategy.num_replicas_in_sync,
    "apart": max(float(np.ptp(copy, axis=0).max()) for copy in copies),
}))
"""


def test_two_devices_share_a_batch_and_keep_the_same_weights() -> None:
    completed = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    result = json.loads(completed.stdout.strip().splitlines()[-1])
    assert result["replicas"] == 2
    assert result["apart"] == 0  # one update from the gradients of both devices
    assert result["losses"][0] != result["losses"][1]
    assert all(abs(losses["true_residual"] - 9) < 1e-4 for losses in result["losses"])
