"""`python -m stages.external`: lists files of external pairs with sizes and times, so that DVC sees changes."""

from __future__ import annotations

from pathlib import Path

from distort_pipeline.params import Params
from distort_pipeline.records import Report
from distort_pipeline.stores.archives import is_archive
from distort_pipeline.stores.files import write_json
from distort_pipeline.stores.lists import list_table, listed_path
from stages.face import BUILD, show


def files_of(source: Path) -> list[Path]:
    """Return the files of a folder of distorted images, an archive, or a list of pairs with its distorted images."""
    if source.is_dir():
        return sorted(path for path in source.rglob("*") if path.is_file())
    if is_archive(source.name):
        return [source]
    rows = list_table(source, ["distorted"])
    return [source, *(source.parent / listed_path(source.parent, row.text("distorted") or "") for row in rows)]


def list_external(params: Params) -> Report:
    """Write build/external.json: path → [bytes, nanoseconds of the last change]."""
    found = [path for source in params.pairs.external.values() for path in files_of(Path(source)) if path.is_file()]
    write_json(BUILD / "external.json", {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in found})
    return Report("external", {"files": len(found)}, (f"{len(found)} files of external pairs",))


if __name__ == "__main__":
    show(list_external)
