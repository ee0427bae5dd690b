"""WebDataset: tar shards, one for each batch and split; the files of a sample share a key.

export/train/jpeg-00000.tar    KEY.ref.png, KEY.dist.png and KEY.json for each sample; KEY is sample-00000000 and so on
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

from distort_pipeline.exports import ENDINGS, EXPORTS, Encoded, ExportSource, ShardFormat, key


@EXPORTS.add("webdataset")
class WebDataset(ShardFormat):
    """Tar files for sequential reading."""

    suffix = ".tar"
    files = ("*/*.tar", "application/x-tar")
    about = """
```python
import glob
import webdataset as wds

shards = sorted(glob.glob("train/*.tar"))
dataset = wds.WebDataset(shards, shardshuffle=len(shards)).shuffle(500).decode("rgb8")
sample = next(iter(dataset))
sample["dist.png"], sample["ref.png"], sample["json"]["distortion"]
```

A shard holds one distortion: shuffle shards and samples when training.
"""

    def write_shard(self, source: ExportSource, path: Path, samples: Iterable[Encoded]) -> None:  # noqa: ARG002
        """Write a tar file with deterministic bytes: no times, no owners."""
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for sample, images in samples:
                metadata = json.dumps(sample.row(), ensure_ascii=False).encode()
                for ending, data in (*((ENDINGS[kind], png) for kind, png in images.items()), ("json", metadata)):
                    entry = tarfile.TarInfo(f"{key(sample)}.{ending}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
