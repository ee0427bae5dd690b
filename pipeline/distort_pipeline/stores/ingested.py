"""Reading of ingested images, with a check of their pixels."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from distort_pipeline.errors import PipelineError
from distort_pipeline.pixels import Image
from distort_pipeline.records import ImageRecord
from distort_pipeline.stores.sources import read_image

IMAGES_IN_MEMORY = 2  # neighbouring shards share one image


def require_images(root: Path) -> None:
    """Raise PipelineError if `root`, the folder of a manifest's images, is gone."""
    if not root.is_dir():
        raise PipelineError(
            f"there is no folder {root} of images; name the new folder of images that moved with --root"
        )


@lru_cache(maxsize=IMAGES_IN_MEMORY)
def read_ingested(root: Path, record: ImageRecord) -> Image:
    """Return the image of a manifest's row, read-only; PipelineError if its pixels changed since ingest."""
    image = read_image(root, record.path, expected=record.image_digest)
    image.setflags(write=False)
    return image
