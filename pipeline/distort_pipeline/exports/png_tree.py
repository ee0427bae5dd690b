"""A tree of lossless PNG files: each reference tile once, each sample once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2

from distort_pipeline.data.containers import mark_png
from distort_pipeline.data.files import atomic_file, write_bytes
from distort_pipeline.exports.source import Exported, ExportSource, Part
from distort_pipeline.records import Image


def encode_png(image: Image) -> bytes:
    """Return `image` as the bytes of a PNG file with the mark of this program."""
    success, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not success:
        raise ValueError(f"OpenCV could not encode an image of shape {image.shape}")
    return mark_png(data.tobytes())


class PngTree:
    """Base class of formats with PNG files; override `reference_path` and `sample_path` for other names."""

    table: str = "samples.csv"
    scored: bool = True
    files: tuple[str, str] = ("**/*.png", "image/png")
    rating_scale: tuple[float, float] | None = None
    about: str = ""

    def card_head(self, splits: Sequence[str]) -> dict[str, object]:  # noqa: ARG002
        """Return no further fields: no tool reads the card's head for these files."""
        return {}

    def reference_path(self, sample: Exported) -> str:
        """Return the path of the reference tile of a sample."""
        return f"pristine/{sample.record.tile:08d}.png"

    def sample_path(self, sample: Exported) -> str:
        """Return the path of a sample."""
        record = sample.record
        return f"distorted/{record.distortion}/{record.sample:08d}.png"

    def locate(self, part: Part, sample: Exported) -> dict[str, str]:  # noqa: ARG002
        """Return both paths; readers of image folders expect file_name."""
        return {"file_name": self.sample_path(sample), "reference": self.reference_path(sample)}

    def write_part(self, source: ExportSource, part: Part, out: Path) -> list[Path]:
        """Write the samples of a part and its new reference tiles."""
        samples = source.samples(part)
        by_tile = {sample.record.tile: sample for sample in samples}
        files = []
        for tile, image in source.new_tiles(part):
            files.append(out / self.reference_path(by_tile[tile]))
            write_bytes(files[-1], encode_png(image))
        for sample, image in source.pixels(part, samples):
            files.append(out / self.sample_path(sample))
            write_bytes(files[-1], encode_png(image))
        return files

    def finish(self, source: ExportSource, parts: Sequence[Part], out: Path) -> list[Path]:  # noqa: ARG002
        """Return no further files."""
        return []


Encoded = tuple[Exported, bytes, bytes]  # a sample; PNGs of its reference tile and of its distorted tile


class ShardFormat(ABC):
    """A file for each batch and split, written by a single task."""

    folder: str = ""  # parent of the folders of the splits, with a trailing slash
    suffix: str = ""
    table: str = "samples.csv"
    scored: bool = False
    rating_scale: tuple[float, float] | None = None
    files: tuple[str, str] = ("", "")
    about: str = ""

    def card_head(self, splits: Sequence[str]) -> dict[str, object]:  # noqa: ARG002
        """Return no further fields: no tool reads the card's head for these files."""
        return {}

    def locate(self, part: Part, sample: Exported) -> dict[str, str]:
        """Return shard and key of a sample."""
        return {"shard": self.shard_path(part, sample.record.split), "key": key(sample)}

    def shard_path(self, part: Part, split: str) -> str:
        """Return the path of the samples of a part in a split."""
        return f"{self.folder}{split}/{part.batch}{self.suffix}"

    def write_part(self, source: ExportSource, part: Part, out: Path) -> list[Path]:
        """Write the shards of a part."""
        by_split: dict[str, list[Encoded]] = {}
        for sample, reference, image in source.pairs(part):
            encoded = (sample, encode_png(reference), encode_png(image))
            by_split.setdefault(sample.record.split, []).append(encoded)
        files = []
        for split, samples in by_split.items():
            files.append(out / self.shard_path(part, split))
            with atomic_file(files[-1]) as partial:
                self.write_shard(source, partial, samples)
        return files

    @abstractmethod
    def write_shard(self, source: ExportSource, path: Path, samples: Iterable[Encoded]) -> None:
        """Write a shard to `path`."""

    def finish(self, source: ExportSource, parts: Sequence[Part], out: Path) -> list[Path]:  # noqa: ARG002
        """Return no further files."""
        return []


def key(sample: Exported) -> str:
    """Return the key of a sample in a shard: without dots, and no number, which readers of CSV would shorten."""
    return f"sample-{sample.record.sample:08d}"
