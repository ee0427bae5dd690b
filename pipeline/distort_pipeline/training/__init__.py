"""The loop, its checkpoints and logs, and one training step for each backend."""
