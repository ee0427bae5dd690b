"""`python -m stages.external`: lists files of external pairs with sizes and times, so that DVC sees changes."""

from __future__ import annotations

import csv
from pathlib import Path

from distort_pipeline.commands.params import Params
from distort_pipeline.data.external_pairs import paths_of
from distort_pipeline.data.files import write_json
from distort_pipeline.records import Report
from stages.face import BUILD, show


def files_of(source: Path) -> list[Path]:
    """Return the files of a folder of distorted images; of a CSV of pairs or an archive, itself and the named files."""
    if source.is_dir():
        return sorted(source.rglob("*"))
    with source.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        return [source, *(source.parent / (row.get("distorted") or "") for row in csv.DictReader(file))]


def run(params: Params) -> Report:
    """Write build/external.json: path → [bytes, nanoseconds of the last change]."""
    sources = [path for source in params.pairs.external.values() for path in paths_of(source)]
    files = [path for source in sources for path in files_of(source) if path.is_file()]
    write_json(BUILD / "external.json", {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in files})
    return Report("external", {"files": len(files)}, (f"{len(files)} files of external pairs",))


if __name__ == "__main__":
    show(run)
