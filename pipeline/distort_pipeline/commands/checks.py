"""What is checked of every kind of store: its header, its ledger, its records, and what should not lie in it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from distort_pipeline.errors import PipelineError, WorkersError
from distort_pipeline.records import digest, digest_rows
from distort_pipeline.stores.files import Ledger, read_json
from distort_pipeline.stores.tables import read_records

Record = TypeVar("Record")

UNREAD = "record files that cannot be gone by"
OUTSIDE_DIGESTS = ("digest", "side_by_side")  # fields of a ledger's entry that its own digest does not cover


@dataclass
class Findings:
    """What was looked at, how often, and what is wrong with it."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    sums: Counter[str] = field(default_factory=Counter)  # to be held against the header's counts
    names: set[str] = field(default_factory=set)  # digests whose number the header counts, such as different pixels
    damaged: set[str] = field(default_factory=set)  # shards with a problem
    changed: set[str] = field(default_factory=set)  # files with other bytes than when they were listed

    def add(self, other: Findings) -> None:
        """Take in what was found of a part."""
        self.counts += other.counts
        self.problems += other.problems
        self.sums += other.sums
        self.names |= other.names
        self.damaged |= other.damaged
        self.changed |= other.changed

    def expect(self, fine: bool, problem: str) -> bool:
        """Return `fine`, noting the `problem` if it is not."""
        if not fine:
            self.problems.append(problem)
        return fine

    @contextmanager
    def noting(self, where: str = "") -> Iterator[None]:
        """Note a PipelineError that stops what is inside, and go on behind it; one of the workers is no finding."""
        try:
            yield
        except WorkersError:
            raise
        except PipelineError as error:
            self.problems.append(f"{where}: {error}" if where else str(error))


def stem_in(path: str, folders: Sequence[str]) -> str | None:
    """Return the stem of a file that lies in one of `folders`, or None if it lies elsewhere.

    >>> stem_in("ledger/jpeg.2-00001.json", ["ledger"]), stem_in("index.html", ["ledger"])
    ('jpeg.2-00001', None)
    """
    folder, slash, name = path.partition("/")
    return name.rpartition(".")[0] if slash and folder in folders else None


def check_fields(found: Findings, metadata: Mapping[str, Any], needed: Mapping[str, type]) -> bool:
    """Return whether the header has all fields that the checks go by, named like settings.pairs.tile_px."""
    fine = True
    for name, kind in needed.items():
        value: Any = metadata
        for step in name.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        fine &= found.expect(
            isinstance(value, kind), f"store.json is damaged: {name} must be there, as {kind.__name__}"
        )
    return fine


def check_digests(found: Findings, metadata: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> None:
    """Check that the header's digest is that of its settings and entries, and its key that of its settings."""
    if all(entries):  # else some are missing, which has been noted
        found.expect(
            metadata.get("digest") == digest([metadata["settings"], [entry["digest"] for entry in entries]]),
            "store.json: its digest is not the one of its settings and the ledger",
        )
    check_key(found, metadata)


def check_key(found: Findings, metadata: Mapping[str, Any]) -> None:
    """Check that the header's key is that of its settings."""
    found.expect(
        metadata.get("config_hash") == digest(metadata["settings"]),
        "store.json: its key is not the one of its settings",
    )


def check_counts(found: Findings, metadata: Mapping[str, Any], sums: Mapping[str, int]) -> None:
    """Check that the header counts what was found."""
    for name, number in sums.items():
        said = metadata["counts"].get(name)
        found.expect(said == number, f"store.json counts {said} {name}, there are {number}")


def ledger_entry(found: Findings, folder: Path, name: str) -> dict[str, Any]:
    """Return the entry of a shard, or {} if there is none to go by: it is missing, damaged or changed, and noted."""
    with found.noting():
        entry: Any = Ledger(folder).entries([name])[0]
        if not isinstance(entry, dict):
            raise PipelineError(f"ledger/{name}.json is damaged: it is no mapping")
        covered = {key: value for key, value in entry.items() if key not in OUTSIDE_DIGESTS}
        if entry.get("digest") != digest(covered) or entry.get("shard") != name:
            raise PipelineError(f"ledger/{name}.json was changed: its digest is another one")
        return entry
    return {}


def checked_records(
    found: Findings, folder: Path, name: str, kind: type[Record], expected: object
) -> list[Record] | None:
    """Return the records of a shard, or None if they cannot be read or are not those with the `expected` digest."""
    path = folder / "records" / f"{name}.parquet"
    found.sums[UNREAD] += 1
    try:
        records = read_records([path], kind)
        same = digest_rows(records) == expected
    except PipelineError as error:
        found.problems.append(f"{name}: {error}")
        return None
    except ValueError as error:  # a changed byte made a text that is no UTF-8, or a number that is none
        found.problems.append(f"{path} is damaged: {error}")
        return None
    if not found.expect(same, f"{path}: its rows are not those that the ledger's digest was taken of"):
        return None
    found.counts["records"] += len(records)
    found.sums[UNREAD] -= 1
    return records


def check_file(found: Findings, path: Path, expected: object) -> None:
    """Check that the file at `path` has the SHA-256 `expected`."""
    try:
        own = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        found.problems.append(f"{path} cannot be read: {error.strerror}")
        return
    found.counts["files"] += 1
    found.expect(own == expected, f"{path} was changed: its digest is not the one noted")


def check_json(found: Findings, path: Path, expected: object) -> Any:
    """Return the JSON document at `path`, or None; note it if it is not the one with the digest `expected`."""
    document = None
    with found.noting():
        document = read_json(path)
        found.counts["files"] += 1
        try:
            same = digest(document) == expected
        except ValueError:  # NaN, which we never write
            same = False
        found.expect(same, f"{path} was changed: its digest is not the one noted")
    return document


def check_page(found: Findings, path: Path) -> None:
    """Check that a page for people is there to its end; its text is no part of any digest."""
    whole = path.is_file() and path.read_bytes().rstrip().endswith(b"</html>")
    found.expect(whole, f"{path} is missing, or its end is")


def check_foreign_files(found: Findings, folder: Path, expected: Mapping[str, Sequence[str]]) -> None:
    """Note files that no shard has in the folders `expected` (folder → names of files), and what kills left behind."""
    for place, names in expected.items():
        there = {path.name for path in (folder / place).iterdir()} if (folder / place).is_dir() else set()
        for name in sorted(there - set(names)):
            found.problems.append(f"{folder / place / name} belongs to nothing in this store")
    for leftover in sorted([*folder.rglob("*.partial"), *folder.rglob("*.building")]):
        found.problems.append(f"{leftover} was left behind by an interrupted run; delete it")


def work_folders(place: Path, name: str = "*") -> list[Path]:
    """Return the work folders of interrupted runs in `place`, for stores called `name`."""
    return sorted(place.glob(f".{name}.*.building"))


def interrupted(work: Path) -> str:
    """Return what to say about a work folder."""
    return f"{work} is of a run that did not end; run its command again, or delete it"
