"""PNG files and a table of three columns."""

from collections.abc import Sequence
from pathlib import Path

from distort_pipeline.data.files import write_csv
from distort_pipeline.exports import ExportSource, Part, PngTree


class PlainCsv(PngTree):
    """PNG files and plain.csv."""

    about = "`plain.csv` lists distorted image, reference image and distortion."

    def finish(self, source: ExportSource, parts: Sequence[Part], out: Path) -> list[Path]:
        """Write plain.csv."""
        samples = [sample for part in parts for sample in source.samples(part)]
        rows = [[self.sample_path(s), self.reference_path(s), s.record.distortion] for s in samples]
        return [write_csv(out / "plain.csv", ("distorted", "reference", "distortion"), rows)]
