"""For pyiqa's GeneralFRDataset: reference path, distorted path and label, one pair a row.

export/meta_info.csv    read by position; official_split is train, val or test
export/splits.pkl       the same splits as rows, {1: {'train': [...], 'val': [...], 'test': [...]}}
export/options.yml      the options of each split
export/pristine/..., export/distorted/...

For pyiqa's GeneralNRDataset: path and label, one distorted image a row.

export/meta_info.csv    read by position; official_split is train, val or test
export/splits.pkl       the same splits as rows, {1: {'train': [...], 'val': [...], 'test': [...]}}
export/options.yml      the options of each split
export/distorted/..., export/pristine/...

Files of both formats for pyiqa: a list with columns read by position, splits by row, and options.

pyiqa takes every column with `split` in its name for a split, hence the only such column, `official_split`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from distort_pipeline.data.files import write_bytes, write_csv
from distort_pipeline.exports import EXPORTS, ExportSource, Part
from distort_pipeline.exports.png_tree import PngTree
from distort_pipeline.exports.source import Exported

LIST, SPLITS, OPTIONS = "meta_info.csv", "splits.pkl", "options.yml"
PHASES = ("train", "val", "test")
NOTE = "# Paths are relative to this folder: run pyiqa here, or prepend the path of this folder.\n"


def write_lists(
    source: ExportSource,
    parts: Sequence[Part],
    out: Path,
    *,
    dataset: str,
    paths: Mapping[str, Callable[[Exported], str]],
) -> list[Path]:
    """Write list, splits and options for pyiqa's class `dataset`; `paths` are the columns before the label."""
    splits: list[str] = []

    def rows() -> Iterator[list[object]]:
        for part in parts:
            for sample in source.samples(part):
                record = sample.record
                splits.append(record.split)
                files = [path(sample) for path in paths.values()]
                yield [*files, sample.score, record.split, record.distortion, record.level, record.image]

    columns = [*paths, source.score.column, "official_split", "distortion", "level", "image"]
    write_csv(out / LIST, columns, rows())
    by_phase = {phase: [index for index, split in enumerate(splits) if split == phase] for phase in PHASES}
    write_bytes(out / SPLITS, pickle.dumps({1: by_phase}, protocol=4))  # plain lists, readable by any Python
    sections = {phase: _section(source, dataset, phase) for phase in PHASES if by_phase[phase]}
    write_bytes(out / OPTIONS, (NOTE + yaml.safe_dump({"datasets": sections}, sort_keys=False)).encode())
    return [out / LIST, out / SPLITS, out / OPTIONS]


def _section(source: ExportSource, dataset: str, phase: str) -> dict[str, str | int | bool]:
    """Return the options of a split."""
    return {
        "name": f"distort_pipeline_{phase}",
        "type": dataset,
        "phase": phase,
        "dataroot_target": ".",
        "meta_info_file": LIST,
        "split_index": "official_split",
        "lower_better": source.score.lower_better,
        "batch_size_per_gpu": 8,
        "num_worker_per_gpu": 2,
    }


@EXPORTS.add("pyiqa_fr")
class PyiqaFullReference(PngTree):
    """Images in folders, with list, splits and options for full-reference measures in pyiqa."""

    about = """
`options.yml` has a section for each split; with it, from this folder:

```python
import yaml
from pyiqa.data import build_dataset

options = yaml.safe_load(open("options.yml"))
dataset = build_dataset(options["datasets"]["train"])
dataset[0]["img"], dataset[0]["ref_img"]
```

`meta_info.csv` is read by position: reference, distorted, label. pyiqa calls any label `mos_label`; see above for the
label here. `splits.pkl` has the same splits by row, for its option `split_file`.
"""

    def finish(self, source: ExportSource, parts: Sequence[Part], out: Path) -> list[Path]:
        """Write list, splits and options."""
        return write_lists(
            source,
            parts,
            out,
            dataset="GeneralFRDataset",
            paths={
                "ref_name": self.reference_path,
                "dist_name": self.sample_path,
            },
        )


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
