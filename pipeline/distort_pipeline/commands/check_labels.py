"""Checks of the labels added to a corpus against their metadata, ledger and digests."""

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
    """Return the problems of the labels in `folder`."""
    findings = Findings()
    if not check_fields(findings, metadata, {"settings": dict, "batches": list, "counts": dict, "origin": str}):
        return findings
    kind = Rating if metadata["origin"] == PEOPLE else MeasuredValue
    entries = [ledger_entry(findings, folder, str(batch)) for batch in metadata["batches"]]
    for batch, entry in zip(metadata["batches"], entries, strict=True):
        path = value_path(folder, batch)
        with findings.noting(batch):
            values = read_records([path], kind)
            findings.counts["values"] += len(values)
            same = digest_rows(values) == entry.get("values")
            findings.expect(not entry or same, f"{path}: the digest of its rows differs from the ledger's")
    check_digests(findings, metadata, entries)
    if all(entries):
        check_counts(findings, metadata, {"samples": sum(entry["samples"] for entry in entries)})
    names = [str(batch) for batch in metadata["batches"]]
    check_foreign_files(
        findings,
        folder,
        {"ledger": [f"{name}.json" for name in names], "values": [f"{name}.parquet" for name in names]},
    )
    return findings
