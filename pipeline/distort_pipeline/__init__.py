"""Learns image distortions and makes corpora of distorted images for image-quality research."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distort_pipeline.data.corpora import open_corpus
    from distort_pipeline.data.pairs import open_pairs

__version__ = "0.1.0"
__all__ = ["__version__", "open_corpus", "open_pairs"]

_LAZY = {"open_corpus": "distort_pipeline.data.corpora", "open_pairs": "distort_pipeline.data.pairs"}


def __getattr__(name: str) -> Any:
    """Return a reader, imported at its first use: `import distort_pipeline` stays light."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
