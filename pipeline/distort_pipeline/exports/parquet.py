"""Parquet with embedded images, for Hugging Face's `datasets`: a file for each batch and split.

export/data/train/jpeg-00000.parquet    columns: reference and distorted (images), and the columns of samples.csv
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distort_pipeline.data.arrays import ARROW
from distort_pipeline.exports import ENDINGS, EXPORTS, KINDS, Encoded, ExportSource, ShardFormat, key
from distort_pipeline.exports.card import hub_splits

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
ROWS_PER_GROUP = 128  # about 30 MB of 256 px tiles, in a reader's memory


@EXPORTS.add("parquet")
class Parquet(ShardFormat):
    """Tables with images in cells."""

    folder = "data/"
    suffix = ".parquet"
    files = ("data/*/*.parquet", "application/vnd.apache.parquet")
    about = """
```python
from datasets import load_dataset

dataset = load_dataset("path/to/this/folder", split="train")
dataset[0]["distorted"], dataset[0]["reference"]  # Pillow images
```

`datasets` calls the split `val` `validation`. In other readers of Parquet, the field `bytes` of either
column is a PNG file.
"""

    def card_head(self, splits: Sequence[str]) -> dict[str, object]:
        """Return the files of each split."""
        return hub_splits({split: f"data/{split}/*.parquet" for split in splits})

    def write_shard(self, source: ExportSource, path: Path, samples: Iterable[Encoded]) -> None:
        """Write a table; its schema declares the image columns to `datasets`."""
        rows = [
            {
                **{kind: {"bytes": png, "path": f"{key(sample)}.{ENDINGS[kind]}"} for kind, png in images.items()},
                **sample.row(),
            }
            for sample, images in samples
        ]
        pq.write_table(
            pa.Table.from_pylist(rows, schema=_schema(source)), path, row_group_size=ROWS_PER_GROUP, compression="zstd"
        )


def _schema(source: ExportSource) -> Any:
    kinds = KINDS if source.with_truth else KINDS[:2]
    features = {name: {"_type": "Image"} for name in kinds}
    fields = [(name, IMAGE) for name in kinds]
    fields += [(name, ARROW[kind]) for name, kind in source.column_types.items()]
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})
