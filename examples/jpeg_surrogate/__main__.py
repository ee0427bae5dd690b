"""`python -m examples.jpeg_surrogate`: the bits of a watermark that survive JPEG, by training channel."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.commands.model import export_model
from distort_pipeline.data.manifests import read_manifest
from distort_pipeline.data.sources import read_ingested
from distort_pipeline.records import Image, derive_seed, make_rng
from examples.jpeg_surrogate.experiment import BITS, bits_right, straight_through, surrogate, train_marker

GRID_PX = 16  # crops are aligned to JPEG's grid, including chroma, as in training of the generator


def main(arguments: list[str] | None = None) -> None:
    """Export the generator, train a watermark through each channel, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m examples.jpeg_surrogate", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("build/models/jpeg"))
    parser.add_argument("--manifest", type=Path, default=Path("build/manifest.jsonl"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--crop-px", type=int, default=128)
    parser.add_argument("--strength", type=float, default=6.0, help="standard deviation of the mark in 8-bit levels")
    parser.add_argument("--test-crops", type=int, default=128)
    options = parser.parse_args(arguments)
    parameters = json.loads((options.model / "store.json").read_text(encoding="utf-8"))["levels"][-1]["parameters"]
    with tempfile.TemporaryDirectory() as folder:
        export_model(options.model, Path(folder) / "jpeg", "keras")
        generator = keras.models.load_model(Path(folder) / "jpeg" / "generator.keras", compile=False)
    channels = {
        "identity": lambda images: images,
        "the generator": surrogate(generator),
        "JPEG, straight through": straight_through(parameters),
    }
    images = {split: _images(options.manifest, split) for split in ("train", "val")}
    held_out = list(islice(_crops(images["val"], options.crop_px, 1), options.test_crops))
    print(f"{BITS} bits in {options.crop_px} px crops, a mark of {options.strength:g} 8-bit levels; JPEG {parameters}")
    print("trained through".ljust(24), "bits right:", "clean".rjust(10), "after true JPEG".rjust(16))
    for name, channel in channels.items():
        crops = _batches(images["train"], options.crop_px, options.batch_size)
        marker = train_marker(crops, channel, steps=options.steps, strength_8bit=options.strength, seed=0)
        clean, jpeg = bits_right(marker, held_out, parameters, strength_8bit=options.strength, seed=5)
        print(name.ljust(36), f"{clean:10.3f} {jpeg:16.3f}", flush=True)


def _images(manifest: Path, split: str) -> list[Image]:
    listed = read_manifest(manifest)
    return [read_ingested(listed.root, record) for record in listed.records if record.split == split]


def _crops(images: list[Image], crop_px: int, seed: int) -> Iterator[Image]:
    rng = make_rng(derive_seed(seed, "crops"))
    while True:
        image = images[rng.integers(len(images))]
        y, x = (GRID_PX * rng.integers((side - crop_px) // GRID_PX + 1) for side in image.shape[:2])
        yield image[y : y + crop_px, x : x + crop_px]


def _batches(images: list[Image], crop_px: int, batch_size: int) -> Iterator[NDArray[np.uint8]]:
    crops = _crops(images, crop_px, 0)
    while True:
        yield np.stack([next(crops) for _ in range(batch_size)])


if __name__ == "__main__":
    main()
