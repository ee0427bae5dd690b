"""The training step compiled by XLA and as it is, in a process of its own; without noise, which XLA draws otherwise."""

import json
import os
import subprocess
import sys
from pathlib import Path

import distort_pipeline

SCRIPT = """
import json
from dataclasses import replace
import numpy as np
from one_step import NETWORKS
from distort_pipeline.training.gan import make_trainer

side, count = NETWORKS.crop_px, NETWORKS.batch_size
pristine = np.random.default_rng(0).integers(0, 240, (count, side, side, 3), np.uint8)
losses = []
for xla in (False, True):
    trainer, _ = make_trainer(replace(NETWORKS, xla=xla, noise_channels=0))
    figures = trainer.step(pristine, pristine + 9, np.ones((count, 1), np.float32), 0)
    losses.append({name: float(value) for name, value in figures.items()})
print(json.dumps(losses))
"""
# as in test_backends.py: most of the time is compilation
QUICK_COMPILATION = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def test_xla_takes_the_same_step():
    paths = [str(Path(__file__).parent), str(Path(distort_pipeline.__file__).parents[1])]
    environment = {**os.environ, "XLA_FLAGS": QUICK_COMPILATION, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    plain, compiled = json.loads(done.stdout.splitlines()[-1])
    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        assert abs(compiled[name] - value) <= 1e-4 * max(abs(value), 1), name
