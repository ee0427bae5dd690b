"""The pixels that were ingested, and no others."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from distort_pipeline.ranges import Picture
from distort_pipeline.records import PictureRecord
from distort_pipeline.stores.sources import read_picture

PICTURES_IN_MEMORY = 2  # neighbouring shards share the picture at their border


@lru_cache(maxsize=PICTURES_IN_MEMORY)
def read_ingested(root: Path, record: PictureRecord) -> Picture:
    """Return the picture of a manifest's row, read-only; PipelineError if its pixels have changed since ingest."""
    picture = read_picture(root, record.path, expected=record.picture_digest)
    picture.setflags(write=False)
    return picture
