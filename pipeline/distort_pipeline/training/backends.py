"""The trainer for the backend of Keras: KERAS_BACKEND is tensorflow (the default) or jax."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distort_pipeline.backend import backend_name, start_backend
from distort_pipeline.errors import PipelineError

if TYPE_CHECKING:
    from distort_pipeline.training.gan import GANConfig, GANTrainer


def make_trainer(networks: GANConfig) -> tuple[GANTrainer, str]:
    """Return a trainer of `networks`, a `loop.Trainer`, and a description of its devices, such as "2 GPU".

    PipelineError if the backend has no training step.
    """
    start_backend()
    if backend_name() == "tensorflow":
        import tensorflow as tf

        from distort_pipeline.training.tensorflow_step import TensorflowTrainer

        gpus = len(tf.config.list_physical_devices("GPU"))
        return TensorflowTrainer(networks), f"{gpus} GPU" if gpus else "CPU"
    if backend_name() == "jax":
        import jax

        from distort_pipeline.training.jax_step import JaxTrainer

        return JaxTrainer(networks), "CPU, JAX" if jax.default_backend() == "cpu" else "1 GPU, JAX"
    raise PipelineError(f"KERAS_BACKEND is {backend_name()!r}; training needs tensorflow or jax")
