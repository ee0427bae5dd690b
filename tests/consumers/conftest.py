"""PyTorch comes first: in one process, its libraries crash where TensorFlow's are there already (2.14 and 2.21)."""

import importlib

for name in ("torch", "torchvision"):
    try:
        importlib.import_module(name)
    except ImportError:
        continue  # the tests that need it say so
