"""Starts the backend of Keras: which one, how loud, on how many threads.

The environment variable KERAS_BACKEND chooses it, as wherever Keras is used: one choice for a process and all that it
starts. It is no setting of a step, as it decides no more than a device does: weights and checkpoints fit either.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from distort_pipeline.errors import PipelineError, did_you_mean

BACKENDS = ("tensorflow", "jax")
LOUD = "TF_CPP_MIN_LOG_LEVEL"  # TensorFlow's own switch; 2.21 greets on stderr whatever it says, unless it is 0 here


def backend_name() -> str:
    """Return the backend that KERAS_BACKEND names, TensorFlow unless set."""
    return os.environ.setdefault("KERAS_BACKEND", "tensorflow")


def start_backend() -> None:
    """Import the backend, TensorFlow without its greetings; PipelineError if it is none of ours, or JAX and missing."""
    if backend_name() not in BACKENDS:
        raise PipelineError(f"KERAS_BACKEND is {backend_name()!r}{did_you_mean(backend_name(), BACKENDS)}")
    if backend_name() == "jax" and find_spec("jax") is None:
        raise PipelineError("KERAS_BACKEND is jax, but JAX is not installed: pip install 'distort-pipeline[jax]'")
    if backend_name() == "tensorflow" and "tensorflow" not in sys.modules:
        with _quiet():
            import tensorflow as tf

            tf.config.list_physical_devices("GPU")
            tf.get_logger().setLevel("ERROR")  # images of many sizes are retraced, which it warns of


def pin_backend_threads(threads: int) -> None:
    """Make TensorFlow use `threads` threads in this process (0: one a core), if it has not started to compute yet."""
    start_backend()
    if backend_name() != "tensorflow":
        return
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        return  # it has: the process that trained or tested before keeps its threads
    with _quiet():
        tf.constant(0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Send what libraries write to stderr nowhere, unless the user wants to see it."""
    if os.environ.setdefault(LOUD, "3") == "0":
        yield
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
