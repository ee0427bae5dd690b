"""Which samples of a corpus are of which image: what the search on its page looks through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

INDEX_BYTES = 1_500_000  # about 9,000 images with four distortions each
COLUMNS = ("image", "split", "distortion", "level", "sample", "batch", "psnr", "ssim")


@dataclass(frozen=True)
class ImageIndex:
    """What a page carries of a corpus's images, as plain JSON values.

    `kinds` are the distortions at each of their levels, and whether there is only this one. `images` has (id, split,
    parts) of each; a part is (place of its distortion and level among `kinds`, first sample, last sample, how many,
    first batch, last batch, mean PSNR, mean SSIM), means None where there is no such label.
    """

    kinds: tuple[tuple[str, int, bool], ...]
    images: tuple[tuple[str, str, tuple[tuple[Any, ...], ...]], ...]
    left_out: int  # images that it had no room for


def image_index(records: pa.Table, *, first: Collection[str] = (), limit_bytes: int = INDEX_BYTES) -> ImageIndex:
    """Return the index of the sample records of a corpus, by image id; those called `first` are left out last."""
    groups = records.select(COLUMNS).group_by(["image", "split", "distortion", "level"])
    rows = groups.aggregate(
        [("sample", "min"), ("sample", "max"), ("sample", "count"), ("batch", "min"), ("batch", "max"),
         ("psnr", "mean"), ("ssim", "mean")]
    ).to_pylist()  # fmt: skip
    kinds = sorted({(row["distortion"], row["level"]) for row in rows})
    levels = Counter(name for name, _ in kinds)
    places = {kind: place for place, kind in enumerate(kinds)}
    found: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for row in rows:
        part = (
            places[row["distortion"], row["level"]],
            *(row[name] for name in ("sample_min", "sample_max", "sample_count", "batch_min", "batch_max")),
            _rounded(row["psnr_mean"], 2),
            _rounded(row["ssim_mean"], 3),
        )
        found.setdefault((row["image"], row["split"]), []).append(part)
    urgent = sorted(found, key=lambda image: (image[0] not in first, image))
    kept = _fitting([(*key, tuple(sorted(found[key]))) for key in urgent], limit_bytes)
    told = tuple((name, level, levels[name] == 1) for name, level in kinds)
    return ImageIndex(told, tuple(sorted(kept)), len(found) - len(kept))


def _fitting(images: Sequence[tuple[str, str, tuple[Any, ...]]], limit_bytes: int) -> list[Any]:
    """Return the first of `images` that about `limit_bytes` of JSON hold."""
    kept, left = [], limit_bytes
    for image in images:
        left -= len(repr(image))
        if left < 0:
            break
        kept.append(image)
    return kept


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
