"""What formats share that keep samples whole, pristine tile and distorted one together, in a few large files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

from distort_pipeline.exports.png import encode_png
from distort_pipeline.exports.source import Exported, ExportSource
from distort_pipeline.planning.exports import Part
from distort_pipeline.stores.streams import whole_file

Encoded = tuple[Exported, bytes, bytes]  # a sample, its pristine tile and itself as PNG


class ShardFormat(ABC):
    """One file for each batch and split, so that one task writes it alone."""

    folder: str = ""  # in which the folders of the splits lie, with a slash behind it
    suffix: str = ""
    table: str = "samples.csv"
    scored: bool = False
    files: tuple[str, str] = ("", "")
    about: str = ""

    def card_head(self, splits: Sequence[str]) -> dict[str, object]:  # noqa: ARG002
        """Return nothing: no tool reads the card's head for these files."""
        return {}

    def places(self, part: Part, sample: Exported) -> dict[str, str]:
        """Return shard and key of a sample."""
        return {"shard": self.shard_path(part, sample.record.split), "key": key(sample)}

    def shard_path(self, part: Part, split: str) -> str:
        """Return where the samples of a part lie that are of one split."""
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
            with whole_file(files[-1]) as partial:
                self.write_shard(source, partial, samples)
        return files

    @abstractmethod
    def write_shard(self, source: ExportSource, path: Path, samples: Iterable[Encoded]) -> None:
        """Write one shard to `path`."""

    def finish(self, source: ExportSource, parts: Sequence[Part], out: Path) -> list[Path]:  # noqa: ARG002
        """Write nothing more than every export has."""
        return []


def key(sample: Exported) -> str:
    """Return the name of a sample among the files of a shard: no dot in it."""
    return f"{sample.record.sample:08d}"
