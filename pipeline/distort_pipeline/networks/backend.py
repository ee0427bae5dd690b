"""Starts the Keras backend: its choice, its log level and its threads.

Keras is imported from here, `from distort_pipeline.networks.backend import keras, ops`, never by its own name: this
starts the backend. Modules without networks, as for the significance of images, start none.

The environment variable KERAS_BACKEND chooses the backend for a process and its children. There is no setting for
this, because weights and checkpoints fit either backend.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.process import visible_gpus

if TYPE_CHECKING:
    import keras
    from keras import ops

__all__ = ["backend_name", "bfloat16_is_faster", "keras", "ops", "pin_backend_threads", "start_backend"]

BACKENDS = ("tensorflow", "jax")
LOG_LEVEL_VARIABLE = "TF_CPP_MIN_LOG_LEVEL"  # TensorFlow's; unless 0, stderr is discarded too, as 2.21 always prints


def __getattr__(name: str) -> Any:
    """Return Keras, or its operations, after the start of the backend."""
    if name not in ("keras", "ops"):
        raise AttributeError(name)
    start_backend()
    import keras

    return keras if name == "keras" else keras.ops


def backend_name() -> str:
    """Return the backend named by KERAS_BACKEND; TensorFlow if unset."""
    return os.environ.setdefault("KERAS_BACKEND", "tensorflow")


@lru_cache
def bfloat16_is_faster() -> bool:
    """Return whether networks are faster in bfloat16: on GPUs, with AMX, and else if a convolution is here.

    Processors with AVX-512 BF16 alone differ: a training step took 0.6 to 1.5 times as long as in float32.
    """
    if visible_gpus():
        return True
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    if "amx_bf16" in text or "avx512_bf16" not in text:
        return "amx_bf16" in text
    return _seconds_of_a_convolution("bfloat16") < _seconds_of_a_convolution("float32")


def _seconds_of_a_convolution(dtype: str) -> float:
    """Return the least CPU time of a few."""
    start_backend()
    from keras import ops

    images, kernel = ops.ones((8, 48, 48, 64), dtype), ops.ones((3, 3, 64, 64), dtype)
    seconds = []
    for _ in range(5):
        started = time.process_time()
        float(ops.max(ops.conv(images, kernel, padding="same")))
        seconds.append(time.process_time() - started)
    return min(seconds)


def start_backend() -> None:
    """Import the backend, silently, and configure Keras; PipelineError if it is unknown or not installed."""
    if backend_name() not in BACKENDS:
        raise PipelineError(f"KERAS_BACKEND is {backend_name()!r}{did_you_mean(backend_name(), BACKENDS)}")
    if backend_name() == "jax" and find_spec("jax") is None:
        raise PipelineError(
            "KERAS_BACKEND is jax, but JAX is not installed: pip install '.[jax]' in a clone of distort-pipeline"
        )
    try:
        with _without_keras_settings():
            _import_backend()
    except ModuleNotFoundError as missing:
        raise PipelineError(
            f"{missing.name} is not installed; training, evaluation and generators with a network need it, the shipped "
            "ones do not: pip install tensorflow"
        ) from None


def _import_backend() -> None:
    if backend_name() == "tensorflow" and "tensorflow" not in sys.modules:
        with _quiet():
            import tensorflow as tf

            for gpu in tf.config.list_physical_devices("GPU"):
                tf.config.experimental.set_memory_growth(gpu, True)  # or the first process takes all of it
            tf.get_logger().setLevel("ERROR")  # TensorFlow warns of retracing at each new image size
    import keras

    keras.config.set_floatx("float32")  # the networks are written for these
    keras.config.set_image_data_format("channels_last")
    keras.config.set_epsilon(1e-7)


@contextmanager
def _without_keras_settings() -> Iterator[None]:
    """Hide the user's keras.json from imports in this block: TensorFlow and Keras refuse some of each other's types."""
    folder = os.environ.get("KERAS_HOME")
    os.environ["KERAS_HOME"] = os.devnull
    try:
        yield
    finally:
        if folder is None:
            del os.environ["KERAS_HOME"]
        else:
            os.environ["KERAS_HOME"] = folder


def pin_backend_threads(threads: int) -> None:
    """Make TensorFlow use `threads` threads in this process (0: one per core), unless computation has already begun."""
    start_backend()
    if backend_name() != "tensorflow":
        return
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        return  # TensorFlow has already computed in this process and keeps its threads
    with _quiet():
        tf.constant(0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Discard the output of libraries on stderr, unless TF_CPP_MIN_LOG_LEVEL is 0."""
    if os.environ.setdefault(LOG_LEVEL_VARIABLE, "3") == "0":
        yield
        return
    if sys.stderr is None:  # in a Python without a console
        yield
        return
    sys.stderr.flush()
    stderr, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(devnull)
