"""Export formats, each in its own module, registered by name. A format converts a corpus to the files of other tools.

`write_part` runs in a worker for each part, possibly again after a kill, and writes the same files of this part only.
`finish` runs once afterwards and writes the files of the whole export, from the records alone. Every export also has
the files of `croissant.py`: a table of samples, a card, Croissant, attributions, checksums.

There are two kinds: a tree of lossless PNG files, `PngTree`, and a few large files with PNGs inside, `ShardFormat`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from distort_pipeline.data.files import atomic_file, write_bytes
from distort_pipeline.data.images import marked_png
from distort_pipeline.exports.source import Exported, ExportSource, Part, Score
from distort_pipeline.records import Registry

KIND = "export"
VERSION = 3

__all__ = [
    "ENDINGS",
    "EXPORTS",
    "KIND",
    "KINDS",
    "VERSION",
    "Encoded",
    "ExportFormat",
    "ExportSource",
    "Exported",
    "Part",
    "PngTree",
    "Score",
    "ShardFormat",
    "key",
]


class ExportFormat(ABC):
    """An export format, without state; `write_part` and `finish` return the written files, all below `out`."""

    table = "samples.csv"  # file name of the table of all samples
    scored = False  # whether a score is required: samples without a score are omitted
    files = ("", "")  # pattern and media type of the files with images, for Croissant
    rating_scale: tuple[float, float] | None = None  # the only scale of ratings by people; None: any
    about = ""  # layout of the files and how to open them, Markdown

    def card_head(self, splits: Sequence[str]) -> Mapping[str, object]:  # noqa: ARG002
        """Return further fields of the card's YAML head, for tools; none unless a tool reads them."""
        return {}

    @abstractmethod
    def locate(self, part: Part, sample: Exported) -> dict[str, str]:
        """Return the location of a sample: table column → path relative to the export."""

    def locate_true(self, sample: Exported) -> dict[str, str]:  # noqa: ARG002
        """Return the location of the true distortion of a sample, if the export has it: column → path."""
        return {}

    @abstractmethod
    def write_part(self, source: ExportSource, part: Part, out: Path) -> list[Path]:
        """Write the files of a part."""

    def finish(self, source: ExportSource, parts: Sequence[Part], out: Path) -> list[Path]:  # noqa: ARG002
        """Write the format's files of the whole export; none by default."""
        return []


EXPORTS: Registry[type[ExportFormat]] = Registry(
    "export format", "distort_pipeline.exports", group="distort_pipeline.exports"
)


class PngTree(ExportFormat):
    """Each reference tile once, each sample once; override `reference_path` and `sample_path` for other names."""

    scored = True
    files = ("**/*.png", "image/png")

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

    def locate_true(self, sample: Exported) -> dict[str, str]:
        """Return the path of the true distortion of a sample."""
        return {"true": f"true/{sample.record.distortion}/{sample.record.sample:08d}.png"}

    def write_part(self, source: ExportSource, part: Part, out: Path) -> list[Path]:
        """Write the samples of a part, perhaps with their true distortions, and its new reference tiles."""
        samples = source.samples(part)
        by_tile = {sample.record.tile: sample for sample in samples}
        files = []
        for tile, image in source.new_tiles(part):
            files.append(out / self.reference_path(by_tile[tile]))
            write_bytes(files[-1], marked_png(image))
        for sample, image in source.pixels(part, samples):
            files.append(out / self.sample_path(sample))
            write_bytes(files[-1], marked_png(image))
            if source.with_truth:
                files.append(out / self.locate_true(sample)["true"])
                write_bytes(files[-1], marked_png(source.corpus.true(sample.record)))
        return files


Encoded = tuple[Exported, Mapping[str, bytes]]  # a sample; PNGs of its reference, distorted and perhaps true tile
KINDS = ("reference", "distorted", "true")
ENDINGS = {"reference": "ref.png", "distorted": "dist.png", "true": "true.png"}  # of their files in a shard


class ShardFormat(ExportFormat):
    """A file for each batch and split, written by a single task; each sample is stored with its reference tile."""

    folder = ""  # parent of the folders of the splits, with a trailing slash
    suffix = ""

    def locate(self, part: Part, sample: Exported) -> dict[str, str]:
        """Return shard and key of a sample."""
        return {"shard": self.shard_path(part, sample.record.split), "key": key(sample)}

    def shard_path(self, part: Part, split: str) -> str:
        """Return the path of the samples of a part in a split."""
        return f"{self.folder}{split}/{part.batch}{self.suffix}"

    def write_part(self, source: ExportSource, part: Part, out: Path) -> list[Path]:
        """Write the shards of a part."""
        by_split: dict[str, list[Encoded]] = {}
        for sample, *images in source.pairs(part):
            kinds = zip(KINDS, images, strict=True)
            encoded = {kind: marked_png(image) for kind, image in kinds if image is not None}
            by_split.setdefault(sample.record.split, []).append((sample, encoded))
        files = []
        for split, samples in by_split.items():
            files.append(out / self.shard_path(part, split))
            with atomic_file(files[-1]) as partial:
                self.write_shard(source, partial, samples)
        return files

    @abstractmethod
    def write_shard(self, source: ExportSource, path: Path, samples: Iterable[Encoded]) -> None:
        """Write a shard to `path`."""


def key(sample: Exported) -> str:
    """Return the key of a sample in a shard: without dots, and no number, which readers of CSV would shorten."""
    return f"sample-{sample.record.sample:08d}"
