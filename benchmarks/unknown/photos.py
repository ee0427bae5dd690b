"""The photographs: 48 to learn from and 24 of other sources to judge on, listed by digest in photos.csv."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.unknown.pixels import Image, decode
from distort_pipeline.data.images import image_digest

LISTED = Path(__file__).with_name("photos.csv")
LEARN, JUDGE = 48, 24
SMALLEST_PX = 512  # of both sides
LARGEST_PX = (768, 1024)  # rows and columns; larger photographs are cut about their centre
SUFFIXES = (".png", ".webp", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg")

Part = Literal["learn", "judge"]


@dataclass(frozen=True)
class Photo:
    """One row of photos.csv."""

    digest: str  # SHA-256 of the decoded 8-bit RGB pixels and their shape, as the product has it
    part: Part
    source: str  # what it came with: photographs of one source are in one part
    file: str  # relative to the folder, for readers; the digest decides

    @property
    def stem(self) -> str:
        """The name of its images in all folders: it tells neither source nor content."""
        return self.digest[:12]


def choose(folder: Path) -> list[tuple[Photo, Image]]:
    """Return the photographs of `folder`, cut to LARGEST_PX: those listed if all are there, else as many of others.

    Raises ValueError where there are too few, or all of one source.
    """
    images_by_digest = {photo.digest: (photo, image) for photo, image in _read(folder)}
    listed = read_list()
    if listed and all(photo.digest in images_by_digest for photo in listed):
        return [(photo, centre(images_by_digest[photo.digest][1])) for photo in listed]
    large = [photo for photo, image in images_by_digest.values() if min(image.shape[:2]) >= SMALLEST_PX]
    return [(photo, centre(images_by_digest[photo.digest][1])) for photo in split_photos(large)]


def split_photos(photos: Sequence[Photo], learn: int = LEARN, judge: int = JUDGE) -> list[Photo]:
    """Return `learn` and then `judge` of `photos`, no source in both; which ones is decided by their digests.

    Sources, the smallest first, go to the judging part until it is full; ValueError if the rest is too few.
    """
    by_source: defaultdict[str, list[Photo]] = defaultdict(list)
    for photo in sorted(photos, key=lambda photo: photo.digest):
        by_source[photo.source].append(photo)
    judging: list[Photo] = []
    learning: list[Photo] = []
    for group in sorted(by_source.values(), key=lambda group: (len(group), group[0].source)):
        (judging if len(judging) < judge else learning).extend(group)
    if len(judging) < judge or len(learning) < learn:
        raise ValueError(
            f"{learn} photographs to learn from and {judge} of other sources to judge on are needed, both sides at"
            f" least {SMALLEST_PX} px; there are {len(learning)} and {len(judging)}: name a folder with more, of more"
            " sources"
        )
    parts: tuple[tuple[Part, list[Photo]], ...] = (("learn", learning[:learn]), ("judge", judging[:judge]))
    return [Photo(photo.digest, part, photo.source, photo.file) for part, group in parts for photo in group]


def centre(image: Image) -> Image:
    """Return the middle of `image`, at most LARGEST_PX, its sides even: 4:2:0 video knows no others."""
    sides = [min(side, largest) // 2 * 2 for side, largest in zip(image.shape, LARGEST_PX, strict=False)]
    top, left = ((length - side) // 2 for length, side in zip(image.shape, sides, strict=False))
    return np.ascontiguousarray(image[top : top + sides[0], left : left + sides[1]])


def read_list(path: Path = LISTED) -> list[Photo]:
    """Return the rows of photos.csv; none if there is no such file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    parts: dict[str, Part] = {"learn": "learn", "judge": "judge"}
    return [Photo(row["digest"], parts[row["part"]], row["source"], row["file"]) for row in rows]


def write_list(photos: Sequence[Photo], path: Path = LISTED) -> None:
    """Write photos.csv."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["digest", "part", "source", "file"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(photo) for photo in photos)


def _read(folder: Path) -> Iterator[tuple[Photo, Image]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            image = decode(path.read_bytes())
            name = path.relative_to(folder).as_posix()
            yield Photo(image_digest(image), "learn", _source(name), name), image


def _source(name: str) -> str:
    """Return where a photograph came from: what stands before "__" in its name, else its folder, else its own name.

    >>> _source("a-package__sea.webp"), _source("holiday/sea.png"), _source("sea.png")
    ('a-package', 'holiday', 'sea.png')
    """
    if "__" in name:
        return name.split("__")[0]
    return name.rsplit("/", 1)[0] if "/" in name else name
