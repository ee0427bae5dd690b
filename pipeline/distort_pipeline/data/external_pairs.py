"""External pairs: distorted images in a folder or archive, named as the pristine images, or a list of pairs.

Several folders in order of severity, or a list with a column `level`, are the levels of one distortion.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from distort_pipeline.data.arrays import read_records
from distort_pipeline.data.containers import InvalidImage
from distort_pipeline.data.files import read_json
from distort_pipeline.data.images import FORMATS, decode
from distort_pipeline.data.lists import Row, common_root, is_archive, list_table, listed_path, resolved
from distort_pipeline.data.pairs import distorted_column
from distort_pipeline.data.sources import open_source, read_bytes
from distort_pipeline.errors import PipelineError
from distort_pipeline.metrics.registration import (
    SHIFTED_PX,
    Registration,
    are_shifted,
    count_shifted,
    count_warped,
    find_mismatches,
)
from distort_pipeline.records import Image, ImageRecord, PairRecord

NAMES_SHOWN = 3
PAIR, LEVEL = ("pristine", "distorted"), "level"  # columns of a list


@dataclass(frozen=True)
class Partners:
    """The distorted partners of the images of a manifest, at one level."""

    root: Path  # of their paths
    paths: Mapping[str, str]  # image id → path of its partner
    reasons: Mapping[str, str]  # image id → reason for the absence of a partner, where more than a missing file
    unused: tuple[str, ...] = ()  # files or rows without an image in the manifest
    parameters: Mapping[str, float] = field(default_factory=dict)  # of the distortion, where a list has them

    def of_images(self, ids: Iterable[str]) -> Partners:
        """Return the partners of some of the images."""
        return replace(self, paths={name: self.paths[name] for name in ids if name in self.paths}, unused=())

    def file_digests(self) -> dict[str, str | None]:
        """Return image id → SHA-256 of the file of its partner; None if unreadable, as its shard says."""
        return {image: _file_digest(self.root, path) for image, path in self.paths.items()}

    def read(self, image: ImageRecord) -> Image:
        """Return the partner of `image`; InvalidImage with the reason if missing, unreadable or of another size."""
        path = self.paths.get(image.id)
        if path is None:
            raise InvalidImage(self.reasons.get(image.id, "no distorted partner"))
        try:
            partner, _ = decode(read_bytes(self.root, path))
        except InvalidImage as invalid:
            raise InvalidImage(f"its partner {path} cannot be used: {invalid.reason}") from None
        height, width = partner.shape[:2]
        if (height, width) != (image.height, image.width):
            sizes = f"{width} x {height} px, the image {image.width} x {image.height} px"
            raise InvalidImage(f"its partner {path} is {sizes}")
        return partner


def _file_digest(root: Path, path: str) -> str | None:
    try:
        return hashlib.sha256(read_bytes(root, path)).hexdigest()
    except InvalidImage:
        return None


def match_levels(source: str, images: Sequence[ImageRecord], root: Path) -> tuple[Partners, ...]:
    """Return the partners of `images` at each level of `source`, weakest first, see `match_pairs`.

    `source` is a path, or several separated by commas, one for each level. A list with the column `level`, numbers from
    1, has the pairs of all levels; further columns with a number in each row are parameters, the same in all rows of a
    level.
    """
    paths = paths_of(source)
    if len(paths) > 1:
        return tuple(match_pairs(path, images, root) for path in paths)
    (path,) = paths
    if not path.is_file() or is_archive(path.name):
        return (match_pairs(path, images, root),)
    rows = list_table(path, PAIR)
    if not any(LEVEL in row.cells for row in rows):
        return (match_pairs(path, images, root),)
    by_level: dict[int, list[Row]] = {}
    for row in rows:
        by_level.setdefault(_level_of(row), []).append(row)
    levels = sorted(by_level)
    if levels != list(range(1, len(levels) + 1)):
        raise PipelineError(f"{path} has the levels {', '.join(map(str, levels))}: number them from 1, the mildest")
    return tuple(
        replace(_match_rows(path, by_level[level], images, root), parameters=_parameters(by_level[level]))
        for level in levels
    )


def paths_of(source: str) -> list[Path]:
    """Return the paths in `source`, separated by commas unless all of it is the path of something.

    >>> [path.name for path in paths_of("shots/iso800, shots/iso3200")]
    ['iso800', 'iso3200']
    """
    return [Path(source)] if Path(source).exists() else [Path(path.strip()) for path in source.split(",")]


def files_of(source: Path) -> list[Path]:
    """Return the files of a folder of distorted images; of a CSV of pairs or an archive, itself and the named files."""
    if source.is_dir():
        return [path for path in sorted(source.rglob("*")) if path.is_file()]
    with source.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        named = [source.parent / (row.get("distorted") or "") for row in csv.DictReader(file)]
    return [path for path in (source, *named) if path.is_file()]


def _level_of(row: Row) -> int:
    number = row.number(LEVEL)
    if number is None or number < 1 or number != int(number):
        raise PipelineError(f"{row.where}: level must be a whole number from 1, the mildest")
    return int(number)


def _parameters(rows: Sequence[Row]) -> dict[str, float]:
    """Return the parameters of a level: the further columns with a number in each of its rows."""
    names = [name for name in rows[0].cells if name not in (*PAIR, LEVEL) and rows[0].number(name) is not None]
    values = {name: {row.number(name) for row in rows} for name in names}
    for name, different in values.items():
        if len(different) > 1:
            raise PipelineError(f"{rows[0].where}: {name} must be the same in all rows of level {_level_of(rows[0])}")
    return {name: value for name, (value,) in values.items() if value is not None}


def match_pairs(source: Path, images: Sequence[ImageRecord], root: Path) -> Partners:
    """Return the partners of `images` in `source`; PipelineError if there are none.

    In a folder or archive, a partner has the relative path of the image, or else the path without suffix, or else the
    stem, if unique among the image files and among the images of the manifest; capitals and the composition of letters
    make no difference. A list, CSV or JSON Lines, has the columns `pristine` (a path of the manifest, the path of
    an image below `root`, or the file name of exactly one image) and `distorted` (a path).
    """
    if source.is_dir() or (source.is_file() and is_archive(source.name)):
        return _match_files(source, images)
    if source.is_file():
        return _match_rows(source, list_table(source, PAIR), images, root)
    raise PipelineError(f"there is no folder, archive or CSV of distorted images at {source}")


def _match_files(source: Path, images: Sequence[ImageRecord]) -> Partners:
    opened = open_source(source)
    prefix = "" if source.is_dir() else f"{source.name}/"
    files = [entry.path.removeprefix(prefix) for entry in opened.listed]
    paths: dict[str, str] = {}
    reasons: dict[str, str] = {}
    ambiguous: list[str] = []
    keys: tuple[Callable[[str], str], ...] = (
        str,
        _folded,
        _without_suffix,
        _folded_without_suffix,
        _stem,
        _folded_stem,
    )
    for key in keys:
        candidates: dict[str, list[str]] = {}
        for file in files:
            candidates.setdefault(key(file), []).append(file)
        namesakes = Counter(key(image.path) for image in images)
        for image in images:
            matches = _image_files(candidates.get(key(image.path), []))
            if image.id in paths or image.id in reasons or not matches:
                continue
            if namesakes[key(image.path)] > 1:
                continue
            if len(matches) == 1:
                paths[image.id] = matches[0]
            else:
                reasons[image.id] = f"its partner is ambiguous: {_some(matches)}"
                ambiguous = ambiguous or matches
    if not paths:
        refused = "".join(f"; {row.path}: {row.reason}" for row in opened.refused[:1])
        raise PipelineError(_levels(source, ambiguous) or f"no file in {source} has the name of an image{refused}")
    unused = tuple(sorted(set(_image_files(files)) - set(paths.values())))
    return Partners(opened.root, {name: prefix + path for name, path in paths.items()}, reasons, unused)


def _match_rows(table: Path, rows: Sequence[Row], images: Sequence[ImageRecord], root: Path) -> Partners:
    by_path = {_composed(image.path): image for image in images}
    by_file = {_composed(str(resolved(root / image.path))): image for image in images}
    by_name: dict[str, list[ImageRecord]] = {}
    for image in images:
        by_name.setdefault(_composed(PurePosixPath(image.path).name), []).append(image)
    listed: dict[str, str] = {}
    unused = []
    for row in rows:
        pristine, distorted = map(row.text, PAIR)
        if pristine is None or distorted is None:
            raise PipelineError(f"{row.where}: a pair needs both pristine and distorted")
        path = listed_path(table.parent, pristine)
        file = str(resolved(table.parent / path))
        namesakes = by_name.get(_composed(path), [])
        image_of_row = by_path.get(_composed(path)) or by_file.get(_composed(file))
        if image_of_row is None and len(namesakes) > 1:
            raise PipelineError(
                f"{row.where}: {len(namesakes)} images of the manifest are called {pristine}: give the path"
            )
        if image_of_row is None and not namesakes:
            unused.append(pristine)
            continue
        image = image_of_row or namesakes[0]
        if image.id in listed:
            raise PipelineError(f"{row.where}: {pristine} has a partner already")
        listed[image.id] = listed_path(table.parent, distorted)
    if not listed:
        example = f"; an example is {images[0].path}" if images else ""
        raise PipelineError(f"no `pristine` of {table} is an image of the manifest{example}")
    partner_root, paths = common_root(table.parent, list(listed.values()))
    return Partners(partner_root.resolve(), dict(zip(listed, paths, strict=True)), {}, tuple(unused))


def _levels(source: Path, ambiguous: Sequence[str]) -> str | None:
    """Return the message on a source with several files for each image, perhaps a folder a level; None for others."""
    if not ambiguous:
        return None
    depth = len(Path(os.path.commonpath(ambiguous)).parts)
    folders = sorted({PurePosixPath(*PurePosixPath(path).parts[: depth + 1]).as_posix() for path in ambiguous})
    if len({PurePosixPath(path).name for path in ambiguous}) < len(ambiguous):
        return (
            f"the images are several times in {source}, in {_some(folders)}: give each folder a name of its own, such "
            f"as --external-pairs NAME={source / folders[0]}, or all in order of severity, separated by commas"
        )
    return f"{source} has several files for an image: {_some(ambiguous)}; leave one, or list the pairs in a CSV"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"{', '.join(names[:NAMES_SHOWN])}{more}"


def _image_files(files: Iterable[str]) -> list[str]:
    """Return the files with a suffix of an image format, or all of `files` if none has."""
    PILImage.init()
    suffixes = {suffix for suffix, name in PILImage.EXTENSION.items() if name in FORMATS}
    files = list(files)
    return [file for file in files if PurePosixPath(file).suffix.lower() in suffixes] or files


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _folded(path: str) -> str:
    return _composed(path).casefold()


def _without_suffix(path: str) -> str:
    return PurePosixPath(_composed(path)).with_suffix("").as_posix()


def _folded_without_suffix(path: str) -> str:
    return _without_suffix(path).casefold()


def _stem(path: str) -> str:
    return PurePosixPath(_composed(path)).stem


def _folded_stem(path: str) -> str:
    return _stem(path).casefold()


# What is said about the external pairs of a store, by column: a name and a level.

THUMBNAILS = "thumbnails"  # folder of the pairs' thumbnails, needed until the store is finished
MEASURED = "measured"  # in run.json: remarks on the pairs, for the summary of a later run
MISMATCHES_SHOWN = 10


def label_of(column: str, external: Mapping[str, Partners]) -> str:
    """Return a column of external pairs as messages name it: without its number where it is the only level.

    >>> none = Partners(Path(), {}, {})
    >>> label_of("scan-1", {"scan-1": none}), label_of("scan-1", {"scan-1": none, "scan-2": none})
    ('scan', 'scan-1')
    """
    name = column.rpartition("-")[0]
    return column if sum(other.rpartition("-")[0] == name for other in external) > 1 else name


def require_a_pair(name: str, partners: Partners, images: Iterable[ImageRecord]) -> None:
    """Raise PipelineError if no partner of `images` can be used; reads partners up to the first usable."""
    reasons = []
    for image in images:
        try:
            partners.read(image)
            return
        except InvalidImage as unusable:
            reasons.append(f"{image.path}: {unusable.reason}")
    reasons.sort(key=lambda reason: reason.endswith("no distorted partner"))  # others first
    raise PipelineError(f"{name} has no usable pair among {len(reasons)} images; the first is {reasons[0]}")


def unused_partners(external: Mapping[str, Partners]) -> Iterator[str]:
    """Yield a line for each column with files or rows of no image in the manifest."""
    for column, partners in external.items():
        if partners.unused:
            count, first, name = len(partners.unused), partners.unused[0], label_of(column, external)
            yield f"{count} of {name} not used: no image of the manifest for {first}{' and others' * (count > 1)}"


def shifts(work: Path, external: Mapping[str, Partners], shards: Sequence[str], *, align: bool) -> Iterator[str]:
    """Yield the shift and gain of each name of external pairs, and a remark if a clear share is shifted."""
    if not external:
        return
    facts: dict[str, dict[str, Mapping[str, Any]]] = {column: {} for column in external}
    for record in read_records([work / "records" / f"{shard}.parquet" for shard in shards], PairRecord):
        column = distorted_column(record.distortion, record.level)
        if column in external:
            facts[column][record.image] = json.loads(record.facts)
    for column, of_image in facts.items():
        name = label_of(column, external)
        pairs = [Registration.of_facts(values) for values in of_image.values()]
        gains = [pair.gain for pair in pairs if pair.gain is not None]
        shifts = [pair.shift_px for pair in pairs if pair.is_reliable]
        gain = f"median gain {np.median(gains):.2f}" if gains else "gain not measurable"
        shift = f"median shift {np.median(shifts):.2f} px, largest {max(shifts):.2f} px, " if shifts else ""
        yield f"{name}: {shift}{gain}; the shift is reliable in {len(shifts)} of {len(pairs)} pairs"
        largest = max((pair.warp.largest_px for pair in pairs if pair.warp), default=0.0)
        warped = f"{count_warped(pairs)} turned, scaled or bent by up to {largest:.1f} px" if largest else ""
        if align:
            count, left = sum(pair.move is not None for pair in pairs), len(pairs) - len(shifts)
            yield (
                f"{name}: {count} pristine images moved onto their partners"
                + (f", {warped}" if warped else "")
                + (f"; {left} pairs stay as they are, because their shift is not reliable" if left else "")
            )
        elif are_shifted(pairs):
            shifted = f"{count_shifted(pairs)} of {len(pairs)} pairs of {name} are shifted by more than {SHIFTED_PX} px"
            yield (
                ", ".join([shifted, warped] if warped else [shifted])
                + ": --align moves the pristine images onto them; a shift that is part of the distortion should stay"
            )


def mismatches(work: Path, external: Mapping[str, Partners], shards: Sequence[str]) -> Iterator[str]:
    """Yield a warning for external pairs that resemble each other less than another pairing."""
    thumbnails: dict[str, NDArray[np.float32]] = {}
    for path in (work / THUMBNAILS / f"{shard}.npz" for shard in shards):
        if path.is_file():  # a repair makes damaged shards only
            with np.load(io.BytesIO(path.read_bytes())) as stored:
                thumbnails |= {name: stored[name].astype(np.float32) for name in stored.files}
    for column, partners in external.items():
        name = label_of(column, external)
        images = [image for image in partners.paths if f"{column}/{image}" in thumbnails]
        pairs = [thumbnails[f"{column}/{image}"] for image in images]
        found = list(find_mismatches([pair[0] for pair in pairs], [pair[1] for pair in pairs]))
        if not found:
            continue
        yield (
            f"warning: {len(found)} of {len(images)} partners of {name} seem to be of another image, mirrored or "
            "turned; correct or remove these files, and make the store again"
        )
        for index, better, score, pair_score in found[:MISMATCHES_SHOWN]:
            image = images[index]
            like = f"resembles {images[better] if isinstance(better, int) else f'its image {better}'} ({score:.2f})"
            like = "resembles no image" if better is None else like
            yield f"{image}: its partner {partners.paths[image]} in {name} {like}, its own image by {pair_score:.2f}"
        if len(found) > MISMATCHES_SHOWN:
            yield f"and {len(found) - MISMATCHES_SHOWN} more"


def measured_before(store: Path) -> list[str]:
    """Return the lines of `shifts` and `mismatches` of the run that made the store."""
    path = store / "run.json"
    return read_json(path).get(MEASURED, []) if path.is_file() else []
