"""For pyiqa's GeneralNRDataset: path and label, one distorted image a row.

export/meta_info.csv    read by position; official_split is train, val or test
export/splits.pkl       the same splits as rows, {1: {'train': [...], 'val': [...], 'test': [...]}}
export/options.yml      the options of each split
export/distorted/..., export/pristine/...
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distort_pipeline.exports import EXPORTS, ExportSource, Part
from distort_pipeline.exports.png_tree import PngTree
from distort_pipeline.exports.pyiqa_lists import write_lists


@EXPORTS.add("pyiqa_nr")
class PyiqaNoReference(PngTree):
    """Images in folders, with list, splits and options for no-reference measures in pyiqa."""

    about = """
`options.yml` has a section for each split; with it, from this folder:

```python
import yaml
from pyiqa.data import build_dataset

options = yaml.safe_load(open("options.yml"))
dataset = build_dataset(options["datasets"]["train"])
dataset[0]["img"]
```

`meta_info.csv` is read by position: distorted image, label. pyiqa calls any label `mos_label`; see above for the
label here. `splits.pkl` has the same splits by row, for its option `split_file`.
"""

    def finish(self, source: ExportSource, parts: Sequence[Part], out: Path) -> list[Path]:
        """Write list, splits and options."""
        paths = {"img_name": self.sample_path}
        return write_lists(source, parts, out, dataset="GeneralNRDataset", paths=paths)
