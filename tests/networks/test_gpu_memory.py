"""GPUs that are not there: TensorFlow is asked to take their memory as it needs it."""

import subprocess
import sys

SCRIPT = """
import tensorflow as tf
gpus, grown = ["GPU:0", "GPU:1"], []
tf.config.list_physical_devices = lambda kind=None: gpus if kind == "GPU" else []
tf.config.experimental.set_memory_growth = lambda device, on: grown.append((device, on))
import sys
tensorflow = sys.modules.pop("tensorflow")  # as if it came with the backend
import importlib.abc, importlib.machinery

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
assert grown == [("GPU:0", True), ("GPU:1", True)], grown
"""


def test_memory_grows_on_every_gpu():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
