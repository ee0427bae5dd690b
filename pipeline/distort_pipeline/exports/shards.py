"""Base class of formats with a few large files, each sample stored with its reference tile."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

from distort_pipeline.data.files import atomic_file
from distort_pipeline.exports.png_tree import encode_png
from distort_pipeline.exports.source import Exported, ExportSource, Part

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
