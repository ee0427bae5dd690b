"""The index from images to samples of a corpus, for the search on its page."""

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
    """The images of a corpus and their samples, as plain JSON values.

    `kinds` has (distortion, level, whether that is its single level). `images` has (id, split, groups); a group is
    (index in `kinds`, first sample, last sample, count, first batch, last batch, mean PSNR, mean SSIM), a mean None
    without that metric.
    """

    kinds: tuple[tuple[str, int, bool], ...]
    images: tuple[tuple[str, str, tuple[tuple[Any, ...], ...]], ...]
    left_out: int  # images omitted for size


def image_index(records: pa.Table, *, first: Collection[str] = (), limit_bytes: int = INDEX_BYTES) -> ImageIndex:
    """Return the index of the sample records of a corpus, by image id; images in `first` are omitted last."""
    groups = records.select(COLUMNS).group_by(["image", "split", "distortion", "level"])
    rows = groups.aggregate(
        [("sample", "min"), ("sample", "max"), ("sample", "count"), ("batch", "min"), ("batch", "max"),
         ("psnr", "mean"), ("ssim", "mean")]
    ).to_pylist()  # fmt: skip
    kinds = sorted({(row["distortion"], row["level"]) for row in rows})
    levels = Counter(name for name, _ in kinds)
    indices = {kind: index for index, kind in enumerate(kinds)}
    by_image: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for row in rows:
        group = (
            indices[row["distortion"], row["level"]],
            *(row[name] for name in ("sample_min", "sample_max", "sample_count", "batch_min", "batch_max")),
            _rounded(row["psnr_mean"], 2),
            _rounded(row["ssim_mean"], 3),
        )
        by_image.setdefault((row["image"], row["split"]), []).append(group)
    ordered = sorted(by_image, key=lambda image: (image[0] not in first, image))
    kept = _fitting([(*key, tuple(sorted(by_image[key]))) for key in ordered], limit_bytes)
    labelled = tuple((name, level, levels[name] == 1) for name, level in kinds)
    return ImageIndex(labelled, tuple(sorted(kept)), len(by_image) - len(kept))


def _fitting(images: Sequence[tuple[str, str, tuple[Any, ...]]], limit_bytes: int) -> list[Any]:
    """Return the first of `images`, about `limit_bytes` of JSON."""
    kept, remaining = [], limit_bytes
    for image in images:
        remaining -= len(repr(image))
        if remaining < 0:
            break
        kept.append(image)
    return kept


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
