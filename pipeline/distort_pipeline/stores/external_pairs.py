"""Other people's pairs: a folder aligned with the pristine one, or a CSV that names the pairs."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from distort_pipeline.errors import PipelineError
from distort_pipeline.records import ImageRecord


def match_pairs(source: Path, images: Sequence[ImageRecord], root: Path) -> dict[str, str]:
    """Return image id → path of its distorted partner relative to `brought_root(source)`; those without are absent.

    In a folder the partner has the image's own relative path, or else the same stem if only one file there and only
    one image of the manifest has it. A CSV has the columns `pristine` (the manifest's path, a path from the CSV to
    the image, which lies below `root`, or the file's name if one image has it) and `distorted` (a path from the
    CSV).
    """
    if source.is_dir():
        return _match_folder(source, images)
    if source.is_file():
        return _match_list(source, images, root)
    raise PipelineError(f"there is no folder or CSV of distorted images at {source}")


def pair_root(source: Path) -> Path:
    """Return the folder that partners' paths start from."""
    return source if source.is_dir() else source.parent


def _match_folder(folder: Path, images: Sequence[ImageRecord]) -> dict[str, str]:
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    there = set(files)
    by_stem: dict[str, list[str]] = {}
    for file in files:
        by_stem.setdefault(PurePosixPath(file).stem, []).append(file)
    bearers = Counter(PurePosixPath(image.path).stem for image in images)
    found = {}
    for image in images:
        stem = PurePosixPath(image.path).stem
        namesakes = by_stem.get(stem, [])
        if image.path in there:
            found[image.id] = image.path
        elif len(namesakes) == 1 == bearers[stem]:
            found[image.id] = namesakes[0]
    if not found:
        raise PipelineError(f"no file in {folder} has the name of an image in the manifest")
    return found


def _match_list(table: Path, images: Sequence[ImageRecord], root: Path) -> dict[str, str]:
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
    by_place = {(table.parent / pristine).resolve(): pristine for pristine in listed}
    by_name: dict[str, list[ImageRecord]] = {}
    found = {}
    meant = set()
    for image in images:
        pristine = image.path if image.path in listed else by_place.get((root / image.path).resolve())
        if pristine is not None:
            found[image.id] = listed[pristine]
            meant.add(pristine)
        else:
            by_name.setdefault(PurePosixPath(image.path).name, []).append(image)
    for name, namesakes in by_name.items():
        if name not in listed or name in meant:
            continue
        if len(namesakes) > 1:
            raise PipelineError(f"{table}: {len(namesakes)} images of the manifest are called {name}: give the path")
        found[namesakes[0].id] = listed[name]
    if not found:
        wanted = f"; one would be {images[0].path}" if images else ""
        raise PipelineError(f"no `pristine` of {table} is an image of the manifest{wanted}")
    return found
