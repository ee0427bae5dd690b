"""Devices that a machine of processors lacks, and the compiler XLA, in one process of their own.

Two GPUs that are not there are asked to share their memory; MirroredStrategy runs on a processor split in two; XLA
compiles the training step, without noise, which XLA draws otherwise.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import distort_pipeline

SCRIPT = """
import importlib.abc, importlib.machinery, json, sys
from dataclasses import replace
import numpy as np
import tensorflow as tf

listed, found, grown = tf.config.list_physical_devices, ["GPU:0", "GPU:1"], []
tf.config.list_physical_devices = lambda kind=None: found if kind == "GPU" else listed(kind)
tf.config.experimental.set_memory_growth = lambda device, on: grown.append((device, on))
tensorflow = sys.modules.pop("tensorflow")  # as if it came with the backend

class Again(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name == "tensorflow" else None
    def create_module(self, spec):
        return tensorflow
    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Again())
from distort_pipeline.networks.backend import start_backend
start_backend()
del sys.meta_path[0]
tf.config.list_physical_devices = listed

devices = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
from one_step import NETWORKS as OTHERS
from distort_pipeline.training import tensorflow_step as step

NETWORKS = replace(OTHERS, base_filters=2, discriminator_filters=2, batch_size=2)
side, count = NETWORKS.crop_px, NETWORKS.batch_size
pristine = np.random.default_rng(0).integers(0, 240, (count, side, side, 3), np.uint8)

def losses_of(trainer, steps):
    batch = (pristine, pristine + 9, np.ones((count, 1), np.float32))
    return [{name: float(value) for name, value in trainer.step(*batch, number).items()} for number in range(steps)]

tf.config.run_functions_eagerly(True)  # a few steps: compiling them would take most of the time
plain = losses_of(step.TensorflowTrainer(replace(NETWORKS, noise_channels=0)), 1)
single = step._strategy
step._strategy = lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
mirrored = step.TensorflowTrainer(NETWORKS)
mirrored_losses = losses_of(mirrored, 2)
copies = [np.stack([np.asarray(copy) for copy in variable.value.values])
          for variable in mirrored.generator.trainable_variables]
step._strategy = single
tf.config.run_functions_eagerly(False)
compiled = losses_of(step.TensorflowTrainer(replace(NETWORKS, noise_channels=0, xla=True)), 1)
print(json.dumps({
    "grown": grown,
    "mirrored": mirrored_losses,
    "replicas": mirrored.strategy.num_replicas_in_sync,
    "apart": max(float(np.ptp(copy, axis=0).max()) for copy in copies),
    "plain": plain[0],
    "compiled": compiled[0],
}))
"""
# as in test_backends.py: most of the time is compilation
QUICK_COMPILATION = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false"
)


@pytest.fixture(scope="module")
def found():
    paths = [str(Path(__file__).parent), str(Path(distort_pipeline.__file__).parents[1])]
    environment = {**os.environ, "XLA_FLAGS": QUICK_COMPILATION, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_memory_grows_on_every_gpu(found):
    assert found["grown"] == [["GPU:0", True], ["GPU:1", True]]


def test_two_devices_share_a_batch_and_keep_the_same_weights(found):
    assert found["replicas"] == 2
    assert found["apart"] == 0  # one update from the gradients of both devices
    assert found["mirrored"][0] != found["mirrored"][1]
    assert all(abs(losses["true_residual"] - 9) < 1e-4 for losses in found["mirrored"])


def test_xla_takes_the_same_step(found):
    plain, compiled = found["plain"], found["compiled"]
    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        assert abs(compiled[name] - value) <= 1e-4 * max(abs(value), 1), name
