"""Hugging Face's imagefolder: images in a folder for each split, and metadata.csv inside it.

export/train/distorted/jpeg/00000000.png, export/train/pristine/00000000.png
export/train/metadata.csv    distorted_file_name and reference_file_name, relative to this folder
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distort_pipeline.data.files import write_csv
from distort_pipeline.exports import EXPORTS, Exported, ExportSource, Part, PngTree
from distort_pipeline.exports.card import hub_splits


@EXPORTS.add("imagefolder")
class ImageFolder(PngTree):
    """PNG files with the metadata table of each split, for `datasets`."""

    scored = False
    about = """
```python
from datasets import load_dataset

dataset = load_dataset("path/to/this/folder", split="train")
dataset[0]["distorted"], dataset[0]["reference"]  # Pillow images: a sample and its reference tile
```

`datasets` calls the split `val` `validation`.
"""

    def card_head(self, splits: Sequence[str]) -> dict[str, object]:
        """Return the files of each split."""
        return hub_splits({split: f"{split}/**" for split in splits})

    def reference_path(self, sample: Exported) -> str:
        """Return the path of the reference tile of a sample."""
        return f"{sample.record.split}/{super().reference_path(sample)}"

    def sample_path(self, sample: Exported) -> str:
        """Return the path of a sample."""
        return f"{sample.record.split}/{super().sample_path(sample)}"

    def finish(self, source: ExportSource, parts: Sequence[Part], out: Path) -> list[Path]:
        """Write the metadata of each non-empty split."""
        columns = ("distorted_file_name", "reference_file_name", *source.column_types)
        files = []
        for split in sorted({sample.record.split for sample in source.all_samples(parts)}):
            rows = (self._row(sample) for sample in source.all_samples(parts) if sample.record.split == split)
            files.append(write_csv(out / split / "metadata.csv", columns, rows))
        return files

    def _row(self, sample: Exported) -> dict[str, object]:
        """Return the row of a sample, with paths relative to the folder of its split."""
        paths = (self.sample_path(sample), self.reference_path(sample))
        distorted, reference = (path.removeprefix(f"{sample.record.split}/") for path in paths)
        return {"distorted_file_name": distorted, "reference_file_name": reference, **sample.row()}
