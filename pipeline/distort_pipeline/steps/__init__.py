"""The pipeline: ingest, pairs, train, evaluate, generate, export; each (config, inputs, out) -> Report."""

# Raised in a commit that changes a step's bytes for the same inputs and settings, with the reason in CHANGELOG.md. The
# stage of dvc.yaml depends on this number, and on no module. tests/goldens check PAIRS and GENERATE.
INGEST = 1
PAIRS = 2
TRAIN = 11
EVALUATE = 4
GENERATE = 7
EXPORT = 4
