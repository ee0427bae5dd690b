"""The plan of an evaluation, and severity sweeps of multi-level generators."""
