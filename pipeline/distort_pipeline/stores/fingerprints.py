"""Near copies of a scene, by difference hashes; and traces of heavy compression before ingest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from distort_pipeline.pixels import Image
from distort_pipeline.stores.containers import read_jpeg

HASH_SIDE = 8  # a difference hash (Krawetz 2013, dHash) along rows and one along columns: 128 bits
THUMBNAIL_SIDE = 24
# Of 278 photographs: copies at another size differ in 8 bits at most, after JPEG at quality 10 in 12, after noise of 40
# levels in 9; the most similar other photographs in 11 bits with a correlation of 0.90.
MAX_BITS = 14
MIN_CORRELATION = 0.95
MIN_DEVIATION = 2.0  # 8-bit levels: a flat thumbnail shows no scene
ROWS_AT_ONCE = 256

LUMINANCE_STEPS = 3688  # sum of Annex K.1 of ITU-T T.81, libjpeg's table at quality 50
MIN_QUALITY = 60  # of libjpeg: coarser tables count as heavy compression
BLOCK_PX = 8
CENTRE_PX = 512
MIN_BLOCKING_PX = 64
# Of 278 photographs at most 0.44 levels; ten after JPEG at quality 30 at least 1.29, at quality 90 at most 0.46.
BLOCKING_8BIT, BLOCKING_SHARE = 1.2, 0.1


@dataclass(frozen=True)
class Fingerprint:
    """The difference hash of an image, and its thumbnail for the check of a match."""

    bits: bytes
    thumbnail: bytes


def fingerprint(image: Image) -> Fingerprint:
    """Return the fingerprint of `image`."""
    grey = PILImage.fromarray(image).convert("L")
    wide = np.asarray(grey.resize((HASH_SIDE + 1, HASH_SIDE), PILImage.Resampling.BOX), np.int16)
    high = np.asarray(grey.resize((HASH_SIDE, HASH_SIDE + 1), PILImage.Resampling.BOX), np.int16)
    bits = np.concatenate([(np.diff(wide, axis=1) < 0).ravel(), (np.diff(high, axis=0) < 0).ravel()])
    thumbnail = grey.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), PILImage.Resampling.BOX)
    return Fingerprint(np.packbits(bits).tobytes(), thumbnail.tobytes())


def near_copies(prints: Sequence[Fingerprint]) -> dict[int, int]:
    """Return index → index of the first image of the same scene, for every image with an earlier near copy."""
    if not prints:
        return {}
    bits = np.frombuffer(b"".join(item.bits for item in prints), np.uint64).reshape(len(prints), -1)
    first = list(range(len(prints)))

    def root(index: int) -> int:
        while first[index] != index:
            index = first[index]
        return index

    for start in range(0, len(prints), ROWS_AT_ONCE):
        rows = bits[start : start + ROWS_AT_ONCE]
        distances = sum(np.bitwise_count(rows[:, None, k] ^ bits[None, :, k]) for k in range(bits.shape[1]))
        for row, column in np.argwhere(np.asarray(distances) <= MAX_BITS):
            scene, other_scene = root(start + int(row)), root(int(column))
            if column > start + row and scene != other_scene and _correlated(prints[start + row], prints[column]):
                first[max(scene, other_scene)] = min(scene, other_scene)
    return {index: root(index) for index in range(len(prints)) if root(index) != index}


def jpeg_quality(data: bytes) -> int | None:
    """Return libjpeg's quality of a JPEG file's luminance table, by its sum; None for other files."""
    jpeg = read_jpeg(data) if data[:2] == b"\xff\xd8" else None
    if jpeg is None or jpeg.luma_table not in jpeg.tables:
        return None
    percent = 100 * sum(jpeg.tables[jpeg.luma_table]) / LUMINANCE_STEPS
    return max(round(5000 / percent if percent > 100 else 100 - percent / 2), 1)


def has_blocks(image: Image) -> bool:
    """Return whether pixels step along a grid of 8 px, in rows and in columns, at any offset."""
    height, width = image.shape[:2]
    if min(height, width) < MIN_BLOCKING_PX:
        return False
    y, x = max((height - CENTRE_PX) // 2, 0), max((width - CENTRE_PX) // 2, 0)
    centre = PILImage.fromarray(image[y : y + CENTRE_PX, x : x + CENTRE_PX]).convert("L")
    grey = np.asarray(centre, np.float32)
    return _steps_in_rows(grey) and _steps_in_rows(grey.T)


def heavy_compression(data: bytes, image: Image) -> str | None:
    """Return the trace of heavy compression in a file, or in its pixels; None for high quality."""
    quality = jpeg_quality(data)
    if quality is not None and quality < MIN_QUALITY:
        return f"a JPEG of quality {quality}"
    return "has the 8 px blocks of an earlier JPEG" if has_blocks(image) else None


def _correlated(first: Fingerprint, second: Fingerprint) -> bool:
    a, b = (np.frombuffer(item.thumbnail, np.uint8).astype(float) for item in (first, second))
    return min(a.std(), b.std()) >= MIN_DEVIATION and np.corrcoef(a, b)[0, 1] >= MIN_CORRELATION


def _steps_in_rows(grey: NDArray[np.float32]) -> bool:
    """Return whether most 8th steps along the rows are larger than both neighbours, by level and by share."""
    steps = np.abs(np.diff(grey, axis=1)).mean(0)
    excess = steps - (np.roll(steps, 1) + np.roll(steps, -1)) / 2
    groups = len(steps) // BLOCK_PX
    by_offset = np.median(excess[: groups * BLOCK_PX].reshape(groups, BLOCK_PX), axis=0)
    return bool(by_offset.max() > max(BLOCKING_8BIT, BLOCKING_SHARE * steps.mean()))
