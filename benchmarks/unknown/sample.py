"""Makes the camera pairs of the built-in sample: `python -m benchmarks.unknown.sample`, into data/camera."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.unknown.distortions import UNKNOWN
from benchmarks.unknown.make import true_file, write_once
from benchmarks.unknown.pixels import decode
from distort_pipeline.data.images import image_digest

DATA = Path(__file__).parents[2] / "data"


def main() -> None:
    """Write the camera's JPEG of each photograph of the sample; files that are there already are left alone."""
    for path in sorted((DATA / "sample").glob("*.png")):
        image = decode(path.read_bytes())
        write_once(
            DATA / "camera" / f"{path.stem}.jpg", partial(true_file, UNKNOWN["camera"], image, image_digest(image))
        )


if __name__ == "__main__":
    main()
