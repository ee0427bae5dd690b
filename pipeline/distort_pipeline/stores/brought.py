"""Other people's pairs: a folder aligned with the pristine one, or a CSV that names the pairs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from distort_pipeline.errors import PipelineError
from distort_pipeline.records import PictureRecord


def partners(source: Path, pictures: Sequence[PictureRecord], root: Path) -> dict[str, str]:
    """Return picture id → path of its distorted partner relative to `brought_root(source)`; those without are absent.

    In a folder the partner has the picture's own relative path, or else the same stem if only one file there has it.
    A CSV has the columns `pristine` (the manifest's path, the file's name, or a path from the CSV to the picture, which
    lies below `root`) and `distorted` (a path from the CSV).
    """
    if source.is_dir():
        return _folder_partners(source, pictures)
    if source.is_file():
        return _listed_partners(source, pictures, root)
    raise PipelineError(f"there is no folder or CSV of distorted pictures at {source}")


def brought_root(source: Path) -> Path:
    """Return the folder that partners' paths start from."""
    return source if source.is_dir() else source.parent


def _folder_partners(folder: Path, pictures: Sequence[PictureRecord]) -> dict[str, str]:
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    there = set(files)
    by_stem: dict[str, list[str]] = {}
    for file in files:
        by_stem.setdefault(PurePosixPath(file).stem, []).append(file)
    found = {}
    for picture in pictures:
        namesakes = by_stem.get(PurePosixPath(picture.path).stem, [])
        if picture.path in there:
            found[picture.id] = picture.path
        elif len(namesakes) == 1:
            found[picture.id] = namesakes[0]
    if not found:
        raise PipelineError(f"no file in {folder} has the name of a picture in the manifest")
    return found


def _listed_partners(table: Path, pictures: Sequence[PictureRecord], root: Path) -> dict[str, str]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = set(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PipelineError(f"cannot read the pairs in {table}: {error}") from None
    if not {"pristine", "distorted"} <= columns:
        raise PipelineError(
            f"{table} must have the columns pristine and distorted, it has: {', '.join(sorted(columns)) or 'none'}"
        )
    listed: dict[str, str] = {}
    for line, pair in enumerate(rows, start=2):
        if not pair["pristine"] or not pair["distorted"]:
            raise PipelineError(f"{table}, line {line}: a pair needs both pristine and distorted")
        if pair["pristine"] in listed:
            raise PipelineError(f"{table}, line {line}: {pair['pristine']} has a partner already")
        listed[pair["pristine"]] = pair["distorted"]
    from_table = {(table.parent / pristine).resolve(): distorted for pristine, distorted in listed.items()}
    found = {}
    for picture in pictures:
        partner = (
            listed.get(picture.path)
            or listed.get(PurePosixPath(picture.path).name)
            or from_table.get((root / picture.path).resolve())
        )
        if partner:
            found[picture.id] = partner
    if not found:
        wanted = f"; one would be {pictures[0].path}" if pictures else ""
        raise PipelineError(f"no `pristine` of {table} is a picture of the manifest{wanted}")
    return found
