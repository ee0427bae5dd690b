"""Learns image distortions and makes corpora of distorted images for image-quality research.

The Python API: each name is imported at its first use, from `distort_pipeline.api` or, of the readers of corpora and
pair stores, from `distort_pipeline.data`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distort_pipeline.api import (
        Generator,
        distort,
        evaluate,
        export,
        generate,
        gmsd,
        ingest,
        jsd_nss,
        list_distortions,
        list_generators,
        load_generator,
        make_pairs,
        ms_ssim,
        nss_features,
        presets,
        psnr,
        ssim,
        train,
    )
    from distort_pipeline.data.corpora import CorpusStore, open_corpus
    from distort_pipeline.data.pairs import open_pairs
    from distort_pipeline.errors import PipelineError
    from distort_pipeline.records import Report

__version__ = "0.1.0"
__all__ = [
    "CorpusStore",
    "Generator",
    "PipelineError",
    "Report",
    "__version__",
    "distort",
    "evaluate",
    "export",
    "generate",
    "gmsd",
    "ingest",
    "jsd_nss",
    "list_distortions",
    "list_generators",
    "load_generator",
    "make_pairs",
    "ms_ssim",
    "nss_features",
    "open_corpus",
    "open_pairs",
    "presets",
    "psnr",
    "ssim",
    "train",
]

_ELSEWHERE = {
    "CorpusStore": "distort_pipeline.data.corpora",
    "open_corpus": "distort_pipeline.data.corpora",
    "open_pairs": "distort_pipeline.data.pairs",
    "PipelineError": "distort_pipeline.errors",
    "Report": "distort_pipeline.records",
}


def __getattr__(name: str) -> Any:
    """Return a name of the API, imported at its first use: `import distort_pipeline` stays light."""
    if name in __all__:
        return getattr(import_module(_ELSEWHERE.get(name, "distort_pipeline.api")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
