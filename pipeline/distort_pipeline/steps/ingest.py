"""ingest: write a manifest of the usable images of a source, and a list of the rejected files."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from distort_pipeline.config import IngestConfig
from distort_pipeline.errors import PipelineError
from distort_pipeline.progress import track
from distort_pipeline.records import ImageRecord, Rejected, Report
from distort_pipeline.splits import assign_splits
from distort_pipeline.stores.builds import require_file
from distort_pipeline.stores.containers import InvalidImage, is_marked_png
from distort_pipeline.stores.fingerprints import Fingerprint, fingerprint, heavy_compression, near_copies
from distort_pipeline.stores.images import decode, image_digest
from distort_pipeline.stores.lists import Entry
from distort_pipeline.stores.manifests import SPLITS, is_manifest, is_rejected, write_manifest, write_rejected
from distort_pipeline.stores.sources import Source, open_source, read_bytes

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
    if not entries and not source.refused:
        raise PipelineError(f"the source {config.source} holds no images")
    examined = list(track(_examine_all(entries, source.root, config), total=len(entries), label="ingest", unit="files"))
    usable, duplicates = _unique(item for item in examined if isinstance(item, Examined))
    passed_over = [*source.passed_over, *(item for item in examined if isinstance(item, PassedOver))]
    unusable = (item for item in examined if isinstance(item, Rejected) and not isinstance(item, PassedOver))
    refused = [*source.refused, *unusable, *duplicates]
    refused.sort(key=lambda row: row.path)
    write_rejected(rejected, sorted([*refused, *passed_over], key=lambda row: row.path))
    if not usable:
        first = [*refused, *passed_over][0]
        raise PipelineError(
            f"nothing in the source {config.source} is usable: {len(refused)} rejected, the first is {first.path} "
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
    _write_remarks(rejected, remarks)
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
        *_passed_over_lines(passed_over),
        *_remark_lines(remarks, rejected),
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


def _examine_all(entries: Sequence[Entry], root: Path, config: IngestConfig) -> Iterator[Examined | Rejected]:
    """Yield the result for each entry, in their order, on a thread for each worker."""
    if config.workers == 0:
        for entry in entries:
            yield _examine(entry, root, config)
        return
    waiting = iter(entries)
    running: deque[Future[Examined | Rejected]] = deque()
    with ThreadPoolExecutor(config.workers) as pool:  # Pillow decodes without Python's lock
        for entry in islice(waiting, config.workers * IN_FLIGHT_PER_WORKER):
            running.append(pool.submit(_examine, entry, root, config))
        while running:
            examined = running.popleft().result()
            for entry in islice(waiting, 1):
                running.append(pool.submit(_examine, entry, root, config))
            yield examined


def _examine(entry: Entry, root: Path, config: IngestConfig) -> Examined | Rejected:
    try:
        data = read_bytes(root, entry.path)
        image, mode = decode(data, max_megapixels=config.max_megapixels, min_side_px=config.min_side_px)
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


def _write_remarks(rejected: Path, remarks: Mapping[str, Sequence[Rejected]]) -> None:
    """Write the remarks beside `rejected`, or delete those of an earlier run."""
    path = _remarks_path(rejected)
    rows = sorted((row for rows in remarks.values() for row in rows), key=lambda row: (row.path, row.reason))
    if rows:
        write_rejected(path, rows)
    else:
        path.unlink(missing_ok=True)


def _remarks_path(rejected: Path) -> Path:
    return rejected.with_name(f"{rejected.name.removesuffix('.csv').removesuffix('.rejected')}.remarks.csv")


def _passed_over_lines(passed_over: Sequence[Rejected]) -> Iterator[str]:
    if passed_over:
        first = passed_over[0]
        yield f"{len(passed_over)} of this program passed over, the first is {first.path}: {first.reason}"


def _remark_lines(remarks: Mapping[str, Sequence[Rejected]], rejected: Path) -> Iterator[str]:
    """Yield a line for each kind of remarks, with its count and its first file."""
    for name, rows in remarks.items():
        if rows:
            more = f"; all are in {_remarks_path(rejected)}" if len(rows) > 1 else ""
            yield f"{REMARKS[name].format(len(rows))}, the first is {rows[0].path}: {rows[0].reason}{more}"


def _reason_lines(refused: Sequence[Rejected], rejected: Path) -> Iterator[str]:
    """Yield the first reasons, and the path of the others."""
    for row in refused[:REASONS_SHOWN]:
        yield f"rejected {row.path}: {row.reason}"
    if len(refused) > REASONS_SHOWN:
        yield f"and {len(refused) - REASONS_SHOWN} more in {rejected}"
