"""The training loop, its checkpoints and logs, and a training step for each backend."""
