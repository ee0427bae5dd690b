"""A tree of lossless PNG files: each reference tile once, each sample once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distort_pipeline.exports.png import encode_png
from distort_pipeline.exports.source import Exported, ExportSource
from distort_pipeline.planning.exports import Part
from distort_pipeline.stores.files import write_bytes


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
