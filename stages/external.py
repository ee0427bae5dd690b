"""`python -m stages.external`: lists files of external pairs with sizes and times, so that DVC sees changes."""

from __future__ import annotations

from distort_pipeline.commands.params import Params
from distort_pipeline.data.external_pairs import files_of, paths_of
from distort_pipeline.data.files import write_json
from distort_pipeline.records import Report
from stages.face import BUILD, show


def run(params: Params) -> Report:
    """Write build/external.json: path → [bytes, nanoseconds of the last change]."""
    sources = [path for text in params.pairs.external.values() for path in paths_of(text)]
    files = [path for source in sources for path in files_of(source)]
    write_json(BUILD / "external.json", {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in files})
    return Report("external", {"files": len(files)}, (f"{len(files)} files of external pairs",))


if __name__ == "__main__":
    show(run)
