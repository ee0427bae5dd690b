"""Whether labels that were added to a corpus are what they were."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distort_pipeline.commands.checks import (
    Findings,
    check_counts,
    check_digests,
    check_fields,
    check_foreign_files,
    ledger_entry,
)
from distort_pipeline.execution import Workers
from distort_pipeline.records import digest_rows
from distort_pipeline.stores.labels import PEOPLE, MeasuredValue, Rating, value_path
from distort_pipeline.stores.tables import read_records


def check_labels(folder: Path, metadata: Mapping[str, Any], workers: Workers) -> Findings:  # noqa: ARG001
    """Return what is wrong with the labels in `folder`."""
    found = Findings()
    if not check_fields(found, metadata, {"settings": dict, "batches": list, "counts": dict, "origin": str}):
        return found
    kind = Rating if metadata["origin"] == PEOPLE else MeasuredValue
    entries = [ledger_entry(found, folder, str(batch)) for batch in metadata["batches"]]
    for batch, entry in zip(metadata["batches"], entries, strict=True):
        path = value_path(folder, batch)
        with found.noting(batch):
            values = read_records([path], kind)
            found.counts["values"] += len(values)
            same = digest_rows(values) == entry.get("values")
            found.expect(not entry or same, f"{path}: its rows are not those that the ledger's digest was taken of")
    check_digests(found, metadata, entries)
    if all(entries):
        check_counts(found, metadata, {"samples": sum(entry["samples"] for entry in entries)})
    names = [str(batch) for batch in metadata["batches"]]
    check_foreign_files(
        found, folder, {"ledger": [f"{name}.json" for name in names], "values": [f"{name}.parquet" for name in names]}
    )
    return found
