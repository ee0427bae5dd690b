"""For pyiqa: reference path (FR only), distorted path and label, one distorted image a row.

export/meta_info.csv    read by position; official_split is train, val or test
export/splits.pkl       the same splits as rows, {1: {'train': [...], 'val': [...], 'test': [...]}}
export/options.yml      the options of each split, for GeneralFRDataset or GeneralNRDataset
export/pristine/..., export/distorted/...

pyiqa takes every column with `split` in its name for a split, hence the only such column, `official_split`.
"""

from __future__ import annotations

import pickle
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import yaml

from distort_pipeline.data.files import write_bytes, write_csv
from distort_pipeline.exports import EXPORTS, Exported, ExportSource, Part, PngTree

LIST, SPLITS, OPTIONS = "meta_info.csv", "splits.pkl", "options.yml"
PHASES = ("train", "val", "test")
NOTE = "# Paths are relative to this folder: run pyiqa here, or prepend the path of this folder.\n"


ABOUT = """
`options.yml` has a section for each split; with it, from this folder:

```python
import yaml
from pyiqa.data import build_dataset

options = yaml.safe_load(open("options.yml"))
dataset = build_dataset(options["datasets"]["train"])
{images}
```

`meta_info.csv` is read by position: {columns}, label. pyiqa calls any label `mos_label`; see above for the
label here. `splits.pkl` has the same splits by row, for its option `split_file`.
"""


class PyiqaLists(PngTree):
    """Images in folders, with list, splits and options."""

    dataset = ""  # pyiqa's class

    @abstractmethod
    def columns(self, sample: Exported) -> dict[str, str]:
        """Return the columns before the label, read by position."""

    def finish(self, source: ExportSource, parts: Sequence[Part], out: Path) -> list[Path]:
        """Write list, splits and options."""
        by_phase: dict[str, list[int]] = {phase: [] for phase in PHASES}
        rows = []
        for index, sample in enumerate(source.all_samples(parts)):
            record = sample.record
            by_phase[record.split].append(index)
            further = {"official_split": record.split, "distortion": record.distortion, "level": record.level}
            rows.append({**self.columns(sample), source.score.column: sample.score, **further, "image": record.image})
        write_csv(out / LIST, tuple(rows[0]), rows)
        write_bytes(out / SPLITS, pickle.dumps({1: by_phase}, protocol=4))  # plain lists, readable by any Python
        sections = {
            phase: {
                "name": f"distort_pipeline_{phase}",
                "type": self.dataset,
                "phase": phase,
                "dataroot_target": ".",
                "meta_info_file": LIST,
                "split_index": "official_split",
                "lower_better": source.score.lower_better,
                "batch_size_per_gpu": 8,
                "num_worker_per_gpu": 2,
            }
            for phase in PHASES
            if by_phase[phase]
        }
        write_bytes(out / OPTIONS, (NOTE + yaml.safe_dump({"datasets": sections}, sort_keys=False)).encode())
        return [out / LIST, out / SPLITS, out / OPTIONS]


@EXPORTS.add("pyiqa_fr")
class PyiqaFullReference(PyiqaLists):
    """Lists for full-reference measures in pyiqa."""

    dataset = "GeneralFRDataset"
    about = ABOUT.format(images='dataset[0]["img"], dataset[0]["ref_img"]', columns="reference, distorted")

    def columns(self, sample: Exported) -> dict[str, str]:
        """Return both paths."""
        return {"ref_name": self.reference_path(sample), "dist_name": self.sample_path(sample)}


@EXPORTS.add("pyiqa_nr")
class PyiqaNoReference(PyiqaLists):
    """Lists for no-reference measures in pyiqa."""

    dataset = "GeneralNRDataset"
    about = ABOUT.format(images='dataset[0]["img"]', columns="distorted image")

    def columns(self, sample: Exported) -> dict[str, str]:
        """Return the path of the distorted image."""
        return {"img_name": self.sample_path(sample)}
