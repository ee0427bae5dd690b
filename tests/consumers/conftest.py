"""Import PyTorch first: its libraries crash in a process with TensorFlow's (2.14 and 2.21) already loaded."""

import importlib

for name in ("torch", "torchvision"):
    try:
        importlib.import_module(name)
    except ImportError:
        continue  # its tests are skipped
