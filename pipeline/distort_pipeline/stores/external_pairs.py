"""External pairs: a folder aligned with the pristine images, or a CSV listing the pairs."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from distort_pipeline.errors import PipelineError
from distort_pipeline.records import ImageRecord


def match_pairs(source: Path, images: Sequence[ImageRecord], root: Path) -> dict[str, str]:
    """Return image id → path of its distorted partner, relative to `pair_root(source)`, for images with a partner.

    In a folder, the partner has the relative path of the image, or else the same stem if unique among the files and
    among the images of the manifest. A CSV has the columns `pristine` (a path of the manifest, a path from the CSV to
    an image below `root`, or the file name of exactly one image) and `distorted` (a path from the CSV).
    """
    if source.is_dir():
        return _match_folder(source, images)
    if source.is_file():
        return _match_list(source, images, root)
    raise PipelineError(f"there is no folder or CSV of distorted images at {source}")


def pair_root(source: Path) -> Path:
    """Return the root of the partners' paths."""
    return source if source.is_dir() else source.parent


def _match_folder(folder: Path, images: Sequence[ImageRecord]) -> dict[str, str]:
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    present = set(files)
    by_stem: dict[str, list[str]] = {}
    for file in files:
        by_stem.setdefault(PurePosixPath(file).stem, []).append(file)
    stem_counts = Counter(PurePosixPath(image.path).stem for image in images)
    partners = {}
    for image in images:
        stem = PurePosixPath(image.path).stem
        candidates = by_stem.get(stem, [])
        if image.path in present:
            partners[image.id] = image.path
        elif len(candidates) == 1 == stem_counts[stem]:
            partners[image.id] = candidates[0]
    if not partners:
        raise PipelineError(f"no file in {folder} has the name of an image in the manifest")
    return partners


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
    by_path = {(table.parent / pristine).resolve(): pristine for pristine in listed}
    by_name: dict[str, list[ImageRecord]] = {}
    partners = {}
    matched = set()
    for image in images:
        pristine = image.path if image.path in listed else by_path.get((root / image.path).resolve())
        if pristine is not None:
            partners[image.id] = listed[pristine]
            matched.add(pristine)
        else:
            by_name.setdefault(PurePosixPath(image.path).name, []).append(image)
    for name, namesakes in by_name.items():
        if name not in listed or name in matched:
            continue
        if len(namesakes) > 1:
            raise PipelineError(f"{table}: {len(namesakes)} images of the manifest are called {name}: give the path")
        partners[namesakes[0].id] = listed[name]
    if not partners:
        example = f"; an example is {images[0].path}" if images else ""
        raise PipelineError(f"no `pristine` of {table} is an image of the manifest{example}")
    return partners
