"""ingest: write a manifest of the usable images of a source, and a list of the rejected files.

Train and val splits are assigned by the digest of each image and not by its position in a list.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath

from distort_pipeline.config import IngestConfig
from distort_pipeline.data.builds import require_file
from distort_pipeline.data.containers import InvalidImage, is_marked_png
from distort_pipeline.data.images import Fingerprint, decode, fingerprint, heavy_compression, image_digest, near_copies
from distort_pipeline.data.lists import Entry
from distort_pipeline.data.manifests import SPLITS, is_manifest, is_rejected, write_manifest, write_rejected
from distort_pipeline.data.sources import Source, open_source, read_bytes
from distort_pipeline.errors import PipelineError
from distort_pipeline.process import track
from distort_pipeline.records import ImageRecord, Rejected, Report, derive_seed

SEED_SPAN = 2**63  # derive_seed gives 63 bits


def assign_splits(
    digests: Sequence[str],
    *,
    val_fraction: float,
    val_count: int | None = None,
    salt: str = "",
    given: Mapping[str, str] | None = None,
    scenes: Mapping[str, str] | None = None,
    for_training: bool = True,
) -> dict[str, str]:
    """Return the split of each image digest; splits in `given` (digest → split) stay.

    Every other digest is hashed with `salt` to a position in [0, 1) and belongs to val below `val_fraction`: added
    images never change the split of earlier images. With `val_count`, the images nearest to 0 fill val up to this
    count, given val images included. Near copies in `scenes` (digest → digest of the first image of the scene) have the
    given split of another image of their scene, or else the position of the first. PipelineError if train or val is
    empty, unless `for_training` is false.

    >>> splits = assign_splits(["a", "b", "c"], val_fraction=0.1, val_count=1, given={"c": "val"})
    >>> splits
    {'a': 'train', 'b': 'train', 'c': 'val'}
    """
    given, scenes = dict(given or {}), scenes or {}
    members: dict[str, list[str]] = {}
    for digest in dict.fromkeys(digests):
        members.setdefault(scenes.get(digest, digest), []).append(digest)
    for scene in members.values():
        known = [given[digest] for digest in scene if digest in given]
        given.update({digest: known[0] for digest in scene if known and digest not in given})
    free = sorted(
        (scene for scene, (digest, *_) in members.items() if digest not in given),
        key=lambda scene: (split_position(scene, salt), scene),
    )
    if val_count is None:
        val = {scene for scene in free if split_position(scene, salt) < val_fraction}
    else:
        val = _first_fitting(
            {scene: len(members[scene]) for scene in free},
            val_count - sum(given.get(digest) == "val" for digest in set(digests)),
        )
    splits = {digest: given.get(digest, "val" if scenes.get(digest, digest) in val else "train") for digest in digests}
    if for_training:
        _require_both(splits, val_fraction, val_count)
    return splits


def split_position(digest: str, salt: str) -> float:
    """Return the position of `digest` in [0, 1) under `salt`, uniform over all digests."""
    return derive_seed("split", salt, digest) / SEED_SPAN


def _first_fitting(sizes: Mapping[str, int], count: int) -> set[str]:
    """Return the first scenes with `count` images together, without scenes too large for the rest; one at least."""
    fitting: list[str] = []
    for scene, size in sizes.items():
        if size <= count:
            fitting.append(scene)
            count -= size
    if not fitting and count > 0:
        fitting = list(sizes)[:1]
    return set(fitting)


def _require_both(splits: Mapping[str, str], val_fraction: float, val_count: int | None) -> None:
    sizes = Counter(splits.values())
    rule = f"ingest.val_fraction {val_fraction:g}" if val_count is None else f"ingest.val_count {val_count}"
    if not sizes["val"]:
        raise PipelineError(
            f"none of {len(splits)} images is in the val split ({rule}): set ingest.val_count to 1 or more, "
            "or name val images in the split column of a list"
        )
    if not sizes["train"]:
        raise PipelineError(
            f"none of {len(splits)} images is in the train split ({rule}): add images, "
            "set ingest.val_count to fewer, or name train images in the split column of a list"
        )


IN_FLIGHT_PER_WORKER = 2  # one image being decoded, one waiting: memory does not grow with the source
SLUG_CHARACTERS = 40
REASONS_SHOWN = 5
REMARKS = {  # count → line of the summary
    "near_copies": "{} near copies share the split of their scene",
    "scenes_in_two_splits": "warning: {} near copies are listed in another split than their scene",
    "compressed_before": "warning: {} images were compressed heavily before, and are no pristine photographs",
    "rows_without_file": "warning: {} rows of SOURCES.csv name no file, and their licence and split are lost",
}


@dataclass(frozen=True)
class Examined:
    """One usable image, without its pixels."""

    entry: Entry
    image_digest: str
    file_digest: str
    width: int
    height: int
    mode: str
    fingerprint: Fingerprint
    compressed: str | None  # trace of heavy compression


class PassedOver(Rejected):
    """A sheet, report or export of this program."""


def run(config: IngestConfig, out: Path, rejected: Path | None = None, *, for_training: bool = True) -> Report:
    """Return the counts of an ingest of `config.source` into the manifest `out`.

    Unusable files go to the CSV `rejected` (default: `out` with the suffix .rejected.csv) with a reason each; remarks
    on accepted files, and rows without a file, to a CSV beside it with the suffix .remarks.csv if there are any.
    PipelineError if the source is missing or empty, no file is usable, or, for training, a split is empty.
    """
    rejected = out.with_suffix(".rejected.csv") if rejected is None else rejected
    if out == rejected:
        raise PipelineError(f"--out and --rejected are the same file {out}")
    require_file(out, is_manifest)
    require_file(rejected, is_rejected)
    source = open_source(Path(config.source))
    entries = source.entries()
    if not (entries or source.refused or source.passed_over):
        raise PipelineError(f"the source {config.source} holds no images")
    examine = partial(_examine, root=source.root, max_megapixels=config.max_megapixels, min_side_px=config.min_side_px)
    results = _in_order(examine, entries, config.workers)
    examined = list(track(results, total=len(entries), label="ingest", unit="files"))
    usable, duplicates = _unique(item for item in examined if isinstance(item, Examined))
    passed_over = [*source.passed_over, *(item for item in examined if isinstance(item, PassedOver))]
    unusable = (item for item in examined if isinstance(item, Rejected) and not isinstance(item, PassedOver))
    refused = [*source.refused, *unusable, *duplicates]
    refused.sort(key=lambda row: row.path)
    write_rejected(rejected, sorted([*refused, *passed_over], key=lambda row: row.path))
    if not usable:
        first, *others = [*refused, *passed_over]
        raise PipelineError(
            f"nothing in the source {config.source} is usable: {1 + len(others)} rejected, the first is {first.path} "
            f"({first.reason}); all are in {rejected}"
        )
    copies = near_copies([item.fingerprint for item in usable])
    splits = assign_splits(
        [item.image_digest for item in usable],
        val_fraction=config.val_fraction,
        val_count=config.val_count,
        salt=config.split_salt,
        given={item.image_digest: item.entry.split for item in usable if item.entry.split is not None},
        scenes={usable[index].image_digest: usable[first].image_digest for index, first in copies.items()},
        for_training=for_training,
    )
    origin = Path(config.source).resolve().name.encode("utf-8", "backslashreplace").decode()
    digest = write_manifest(out, _records(usable, splits, config.licence, origin), source.root)
    remarks = _remarks(source, usable, copies, splits)
    remarks_path = rejected.with_name(f"{rejected.name.removesuffix('.csv').removesuffix('.rejected')}.remarks.csv")
    _write_remarks(remarks_path, remarks)
    sizes = Counter(splits.values())
    counts = {
        "found": len(usable) + len(refused),
        "accepted": len(usable),
        "rejected": len(refused),
        **{split: sizes[split] for split in SPLITS if sizes[split] or split != "test"},
        **({"passed_over": len(passed_over)} if passed_over else {}),
        **{name: len(rows) for name, rows in remarks.items() if rows},
    }
    shares = ", ".join(f"{sizes[split]} {split}" for split in SPLITS if sizes[split])
    lines = (
        f"{counts['accepted']} of {counts['found']} files accepted ({shares}), {counts['rejected']} rejected",
        f"manifest {out}, digest {digest[:12]}",
        *_reason_lines(refused, rejected),
        *(
            f"{len(passed_over)} of this program passed over, the first is {first.path}: {first.reason}"
            for first in passed_over[:1]
        ),
        *_remark_lines(remarks, remarks_path),
    )
    return Report("ingest", counts, lines)


def image_id(path: str, digest: str, *, hex_digits: int = 8) -> str:
    """Return a name for an image, safe as a file name and without dots.

    >>> image_id("photos.zip/Blaue Tür (2).png", "0123456789abcdef")
    'blaue-tur-2-01234567'
    """
    plain = unicodedata.normalize("NFKD", PurePosixPath(path).stem).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9_]+", "-", plain)[:SLUG_CHARACTERS].strip("-")
    return f"{slug or 'image'}-{digest[:hex_digits]}"


def _in_order(
    examine: Callable[[Entry], Examined | Rejected], entries: Sequence[Entry], workers: int
) -> Iterator[Examined | Rejected]:
    """Yield the result of `examine` for each entry, in their order, on a thread for each worker."""
    if workers == 0:
        yield from map(examine, entries)
        return
    waiting = iter(entries)
    running: deque[Future[Examined | Rejected]] = deque()
    with ThreadPoolExecutor(workers) as pool:  # Pillow decodes without Python's lock
        running.extend(pool.submit(examine, entry) for entry in islice(waiting, workers * IN_FLIGHT_PER_WORKER))
        while running:
            examined = running.popleft().result()
            running.extend(pool.submit(examine, entry) for entry in islice(waiting, 1))
            yield examined


def _examine(entry: Entry, *, root: Path, max_megapixels: float, min_side_px: int) -> Examined | Rejected:
    try:
        data = read_bytes(root, entry.path)
        image, mode = decode(data, max_megapixels=max_megapixels, min_side_px=min_side_px)
    except InvalidImage as unusable:
        return Rejected(entry.path, unusable.reason)
    if is_marked_png(data):
        return PassedOver(entry.path, "an image that this program wrote: a sheet, a report, or an export")
    digest = image_digest(image)
    if entry.image_digest not in (None, digest):
        return Rejected(entry.path, "its pixels differ from the digest in the manifest")
    height, width = image.shape[:2]
    return Examined(
        entry,
        digest,
        hashlib.sha256(data).hexdigest(),
        width,
        height,
        mode,
        fingerprint(image),
        heavy_compression(data, image),
    )


def _unique(examined: Iterable[Examined]) -> tuple[list[Examined], list[Rejected]]:
    """Return the first image of each digest, and the later ones as rejected."""
    first: dict[str, Examined] = {}
    duplicates = []
    for item in examined:
        kept = first.setdefault(item.image_digest, item)
        if kept is not item:
            duplicates.append(Rejected(item.entry.path, f"duplicate of {kept.entry.path}"))
    return list(first.values()), duplicates


def _records(usable: Iterable[Examined], splits: dict[str, str], licence: str, origin: str) -> list[ImageRecord]:
    records: dict[str, ImageRecord] = {}
    for item in usable:
        name = image_id(item.entry.path, item.image_digest)
        if name in records:  # equal stem and equal 32 bits of the digests: happens among a million images
            name = image_id(item.entry.path, item.image_digest, hex_digits=64)
        records[name] = ImageRecord(
            id=name,
            path=item.entry.path,
            image_digest=item.image_digest,
            file_digest=item.file_digest,
            width=item.width,
            height=item.height,
            mode=item.mode,
            licence=item.entry.licence or licence,
            source=item.entry.source or origin,
            split=splits[item.image_digest],
        )
    return list(records.values())


def _remarks(
    source: Source, usable: Sequence[Examined], copies: Mapping[int, int], splits: Mapping[str, str]
) -> dict[str, list[Rejected]]:
    """Return the remarks on accepted images and on rows without a file, by their kind."""
    near: list[Rejected] = []
    across: list[Rejected] = []
    for index, first in copies.items():
        item, other = usable[index], usable[first]
        split, other_split = splits[item.image_digest], splits[other.image_digest]
        if split == other_split:
            near.append(Rejected(item.entry.path, f"a near copy of {other.entry.path}, in the same split"))
        else:
            across.append(
                Rejected(item.entry.path, f"in {split}, a near copy of {other.entry.path} in {other_split}, as listed")
            )
    compressed = [Rejected(item.entry.path, item.compressed) for item in usable if item.compressed is not None]
    return {
        "near_copies": near,
        "scenes_in_two_splits": across,
        "compressed_before": compressed,
        "rows_without_file": list(source.unmatched),
    }


def _write_remarks(path: Path, remarks: Mapping[str, Sequence[Rejected]]) -> None:
    """Write the remarks to `path`, or delete those of an earlier run."""
    rows = sorted((row for rows in remarks.values() for row in rows), key=lambda row: (row.path, row.reason))
    if rows:
        write_rejected(path, rows)
    else:
        path.unlink(missing_ok=True)


def _remark_lines(remarks: Mapping[str, Sequence[Rejected]], path: Path) -> Iterator[str]:
    """Yield a line for each kind of remarks, with its count and its first file."""
    for name, rows in remarks.items():
        if rows:
            more = f"; all are in {path}" if len(rows) > 1 else ""
            yield f"{REMARKS[name].format(len(rows))}, the first is {rows[0].path}: {rows[0].reason}{more}"


def _reason_lines(refused: Sequence[Rejected], rejected: Path) -> Iterator[str]:
    """Yield the first reasons, and the path of the others."""
    for row in refused[:REASONS_SHOWN]:
        yield f"rejected {row.path}: {row.reason}"
    if len(refused) > REASONS_SHOWN:
        yield f"and {len(refused) - REASONS_SHOWN} more in {rejected}"
