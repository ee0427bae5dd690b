"""The pipeline: ingest, pairs, train, evaluate, generate, export; each (config, inputs, out) -> Report."""
