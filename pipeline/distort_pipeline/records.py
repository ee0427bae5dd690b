"""Rows written by the steps, and their canonical text for digests."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ImageRecord:
    """An accepted pristine image: a row of a manifest."""

    id: str  # unique in its manifest, safe as a file name: made of the path's stem and the digest
    path: str  # relative to the source root, POSIX; members of archives as archive.zip/inner/name.png
    image_digest: str  # SHA-256 over the decoded 8-bit RGB pixels and their shape: identity, split, seeds
    file_digest: str  # SHA-256 of the file: integrity
    width: int
    height: int
    mode: str  # the mode of the file before it became 8-bit RGB, as Pillow names it
    licence: str
    source: str  # origin, as given by its list or folder
    split: str  # train, val or test


@dataclass(frozen=True)
class Rejected:
    """A rejected file and the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class PairRecord:
    """A pair of a pair store: a distorted tile or image and its pristine counterpart."""

    split: str
    shard: int
    slot: int  # index of the pristine tile along its array; in the val split, 0
    image: str  # ImageRecord.id
    image_digest: str
    y: int  # offset of the tile in the full image, px
    x: int
    height: int  # valid extent of the tile, px: smaller than the tile in a small image
    width: int
    distortion: str
    level: int
    level_index: int  # index along the level axis of the distortion's array
    seed: int
    parameters: str  # canonical JSON of the values used
    facts: str  # canonical JSON of outcomes: bytes reached, flags


@dataclass(frozen=True)
class TileRecord:
    """A pristine reference tile of a corpus."""

    tile: int  # index into the corpus's pristine tiles
    image: str
    image_digest: str
    split: str
    y: int
    x: int
    height: int
    width: int


@dataclass(frozen=True)
class SampleRecord:
    """A generated tile of a corpus."""

    sample: int  # index over the whole corpus
    distortion: str
    batch: int  # number within its condition
    slot: int  # index along the array of the condition
    tile: int  # TileRecord.tile
    image: str
    split: str
    y: int
    x: int
    height: int
    width: int
    level: int  # from 1, the lowest severity; in a corpus of one level, the number of the learned level
    severity: float  # input of the generator, from 0 (the pristine image) to 1 (the highest learned level)
    parameters: str  # canonical JSON: parameters of the true distortion at this severity; {} for external pairs
    target: float | None  # requested value of the metric in generate.target; none where a severity was requested
    draw: int
    seed: int
    model: str  # digest of the generator; of a composite, all digests joined by +
    precision: str
    pixel_digest: str  # SHA-256 over the shape and the pixels of the sample
    psnr: float | None  # dB against the pristine tile; none if identical
    ssim: float | None
    ms_ssim: float | None  # none if a side is below 176 px
    gmsd: float | None  # lower is better
    clipped: float  # fraction of pixel values at 0 or 255 that are not so in the pristine tile


@dataclass(frozen=True)
class Report:
    """The outcome of a step, as counts that add up and as lines of text."""

    step: str
    counts: Mapping[str, int | float | str]
    lines: tuple[str, ...] = field(default_factory=tuple)


def row(record: Any) -> dict[str, Any]:
    """Return a record as a mapping, in the order of its fields."""
    return {column.name: getattr(record, column.name) for column in dataclasses.fields(record)}


def canonical(value: object) -> str:
    """Return the canonical JSON text of `value`: sorted keys, no spaces, no NaN.

    >>> canonical({"b": 1, "a": [1.5, None]})
    '{"a":[1.5,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: object) -> str:
    """Return the SHA-256 of the canonical JSON of `value`, in hexadecimal."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def digest_rows(records: Iterable[Any]) -> str:
    """Return the SHA-256 over the canonical lines of `records`, in order."""
    sha = hashlib.sha256()
    for record in records:
        sha.update(canonical(row(record)).encode() + b"\n")
    return sha.hexdigest()
