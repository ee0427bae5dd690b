"""Files of both formats for pyiqa: a list with columns read by position, splits by row, and options.

pyiqa takes every column with `split` in its name for a split, hence the only such column, `official_split`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from distort_pipeline.exports.source import Exported, ExportSource
from distort_pipeline.planning.exports import Part
from distort_pipeline.stores.files import write_bytes
from distort_pipeline.stores.streams import write_csv

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
