"""Package versions in the metadata of a store, because another codec or library may give other bytes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

# Raised in a commit that changes a step's bytes for the same inputs and settings, with the reason in CHANGELOG.md. The
# stage of dvc.yaml depends on this number, and on no module. tests/goldens check PAIRS and GENERATE.
INGEST = 1
PAIRS = 2
TRAIN = 7
EVALUATE = 4
GENERATE = 7
EXPORT = 4

# packages that decide bytes, besides the libraries of codecs
DECIDING = (
    *("distort-pipeline", "numpy", "scipy", "opencv-python-headless", "pillow", "glymur", "numcodecs", "zarr"),
    *("pyarrow", "keras", "tensorflow", "jax"),
)


def package_versions(names: Sequence[str]) -> dict[str, str]:
    """Return name → version of the packages in `names` that are installed."""
    versions = {}
    for name in sorted(names):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
