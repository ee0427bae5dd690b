"""The pixels that were ingested, and no others."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from distort_pipeline.pixels import Image
from distort_pipeline.records import ImageRecord
from distort_pipeline.stores.sources import read_image

IMAGES_IN_MEMORY = 2  # neighbouring shards share the image at their border


@lru_cache(maxsize=IMAGES_IN_MEMORY)
def read_ingested(root: Path, record: ImageRecord) -> Image:
    """Return the image of a manifest's row, read-only; PipelineError if its pixels have changed since ingest."""
    image = read_image(root, record.path, expected=record.image_digest)
    image.setflags(write=False)
    return image
