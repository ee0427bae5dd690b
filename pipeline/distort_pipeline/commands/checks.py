"""Checks common to all kinds of stores: metadata, ledger, records, and foreign files."""

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

UNREAD = "unusable record files"
OUTSIDE_DIGESTS = ("digest", "side_by_side")  # fields of a ledger entry outside its digest


@dataclass
class Findings:
    """Counts of checked items, and the problems."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    sums: Counter[str] = field(default_factory=Counter)  # compared with the counts in the metadata
    names: set[str] = field(default_factory=set)  # digests counted in the metadata, such as distinct pixels
    damaged: set[str] = field(default_factory=set)  # shards with a problem
    changed: set[str] = field(default_factory=set)  # files whose bytes differ from the listing

    def add(self, other: Findings) -> None:
        """Add the findings of a part."""
        self.counts += other.counts
        self.problems += other.problems
        self.sums += other.sums
        self.names |= other.names
        self.damaged |= other.damaged
        self.changed |= other.changed

    def expect(self, valid: bool, problem: str) -> bool:
        """Return `valid`; note the `problem` if false."""
        if not valid:
            self.problems.append(problem)
        return valid

    @contextmanager
    def noting(self, where: str = "") -> Iterator[None]:
        """Note a PipelineError that ends the block, and continue after the block; a WorkersError is raised."""
        try:
            yield
        except WorkersError:
            raise
        except PipelineError as error:
            self.problems.append(f"{where}: {error}" if where else str(error))


def stem_in(path: str, folders: Sequence[str]) -> str | None:
    """Return the stem of a file in one of `folders`, or None if elsewhere.

    >>> stem_in("ledger/jpeg.2-00001.json", ["ledger"]), stem_in("index.html", ["ledger"])
    ('jpeg.2-00001', None)
    """
    folder, slash, name = path.partition("/")
    return name.rpartition(".")[0] if slash and folder in folders else None


def check_fields(findings: Findings, metadata: Mapping[str, Any], needed: Mapping[str, type]) -> bool:
    """Return whether the metadata has all `needed` fields, named like settings.pairs.tile_px."""
    valid = True
    for name, kind in needed.items():
        value: Any = metadata
        for key in name.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        valid &= findings.expect(
            isinstance(value, kind), f"store.json is damaged: {name} must be there, as {kind.__name__}"
        )
    return valid


def check_digests(findings: Findings, metadata: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> None:
    """Check the digest of settings and ledger entries in the metadata, and the config_hash of the settings."""
    if all(entries):  # otherwise missing entries are noted already
        findings.expect(
            metadata.get("digest") == digest([metadata["settings"], [entry["digest"] for entry in entries]]),
            "store.json: its digest differs from the digest of its settings and the ledger",
        )
    check_config_hash(findings, metadata)


def check_config_hash(findings: Findings, metadata: Mapping[str, Any]) -> None:
    """Check the config_hash of the settings in the metadata."""
    findings.expect(
        metadata.get("config_hash") == digest(metadata["settings"]),
        "store.json: its config_hash differs from the digest of its settings",
    )


def check_counts(findings: Findings, metadata: Mapping[str, Any], sums: Mapping[str, int]) -> None:
    """Check the counts in the metadata."""
    for name, number in sums.items():
        noted = metadata["counts"].get(name)
        findings.expect(noted == number, f"store.json counts {noted} {name}, there are {number}")


def ledger_entry(findings: Findings, folder: Path, name: str) -> dict[str, Any]:
    """Return the ledger entry of a shard; {} and a note if missing, damaged or changed."""
    with findings.noting():
        entry: Any = Ledger(folder).entries([name])[0]
        if not isinstance(entry, dict):
            raise PipelineError(f"ledger/{name}.json is damaged: it is no mapping")
        covered = {key: value for key, value in entry.items() if key not in OUTSIDE_DIGESTS}
        if entry.get("digest") != digest(covered) or entry.get("shard") != name:
            raise PipelineError(f"ledger/{name}.json was changed: its digest differs from the digest of its fields")
        return entry
    return {}


def checked_records(
    findings: Findings, folder: Path, name: str, kind: type[Record], expected: object
) -> list[Record] | None:
    """Return the records of a shard, or None if unreadable or without the `expected` digest."""
    path = folder / "records" / f"{name}.parquet"
    findings.sums[UNREAD] += 1
    try:
        records = read_records([path], kind)
        same = digest_rows(records) == expected
    except PipelineError as error:
        findings.problems.append(f"{name}: {error}")
        return None
    except ValueError as error:  # a changed byte made invalid UTF-8 or an invalid number
        findings.problems.append(f"{path} is damaged: {error}")
        return None
    if not findings.expect(same, f"{path}: the digest of its rows differs from the ledger's"):
        return None
    findings.counts["records"] += len(records)
    findings.sums[UNREAD] -= 1
    return records


def check_file(findings: Findings, path: Path, expected: object) -> None:
    """Check that the file at `path` has the SHA-256 `expected`."""
    try:
        actual = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        findings.problems.append(f"{path} cannot be read: {error.strerror}")
        return
    findings.counts["files"] += 1
    findings.expect(actual == expected, f"{path} was changed: its digest differs from the noted digest")


def check_json(findings: Findings, path: Path, expected: object) -> Any:
    """Return the JSON document at `path`, or None if unreadable; note a digest other than `expected`."""
    document = None
    with findings.noting():
        document = read_json(path)
        findings.counts["files"] += 1
        try:
            same = digest(document) == expected
        except ValueError:  # NaN, never written by us
            same = False
        findings.expect(same, f"{path} was changed: its digest differs from the noted digest")
    return document


def check_page(findings: Findings, path: Path) -> None:
    """Check that an HTML page exists and is complete; its text belongs to no digest."""
    complete = path.is_file() and path.read_bytes().rstrip().endswith(b"</html>")
    findings.expect(complete, f"{path} is missing or incomplete")


def check_foreign_files(findings: Findings, folder: Path, expected: Mapping[str, Sequence[str]]) -> None:
    """Note files other than the `expected` files (folder → file names), and leftovers of killed runs."""
    for subfolder, names in expected.items():
        parent = folder / subfolder
        present = {path.name for path in parent.iterdir()} if parent.is_dir() else set()
        for name in sorted(present - set(names)):
            findings.problems.append(f"{parent / name} belongs to nothing in this store")
    for leftover in sorted([*folder.rglob("*.partial"), *folder.rglob("*.building")]):
        findings.problems.append(f"{leftover} was left behind by an interrupted run; delete it")


def work_folders(parent: Path, name: str = "*") -> list[Path]:
    """Return the work folders in `parent` of interrupted runs for stores called `name`."""
    return sorted(parent.glob(f".{name}.*.building"))


def interrupted(work: Path) -> str:
    """Return the problem of a leftover work folder."""
    return f"{work} is left of an interrupted run; repeat its command, or delete the folder"
