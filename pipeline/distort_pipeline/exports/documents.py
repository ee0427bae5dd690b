"""The documents of every export, for people and for machines.

samples.csv         a row for each sample (metadata.csv in png_folder)
attributions.csv    licence and source of each photograph in the export
README.md           the card
croissant.json      the description for machines
SHA256SUMS          checksums of all files, for `sha256sum --check`
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distort_pipeline.exports import ExportFormat, ExportSource, Part
from distort_pipeline.exports.card import dataset_card
from distort_pipeline.exports.contents import Contents
from distort_pipeline.exports.croissant import croissant
from distort_pipeline.stores.attributions import ATTRIBUTIONS, write_attributions
from distort_pipeline.stores.files import write_bytes
from distort_pipeline.stores.streams import write_csv

CARD, CROISSANT, CHECKSUMS = "README.md", "croissant.json", "SHA256SUMS"


def write_documents(
    exporter: ExportFormat, source: ExportSource, parts: Sequence[Part], out: Path, name: str
) -> list[Path]:
    """Write all documents except the checksums, and return the files; `name` is the format's."""
    contents = Contents()
    table = _write_table(exporter, source, parts, out, contents)
    attributions = [row for row in source.corpus.attributions() if row.image in contents.images]
    write_attributions(out / ATTRIBUTIONS, attributions)
    licences = Counter(row.licence for row in attributions)
    write_bytes(out / CARD, dataset_card(name, exporter, source, contents, licences).encode())
    table_digest = hashlib.sha256(table.read_bytes()).hexdigest()
    document = croissant(name, exporter, source, contents, licences, table_digest)
    write_bytes(out / CROISSANT, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    return [table, out / ATTRIBUTIONS, out / CARD, out / CROISSANT]


def write_checksums(out: Path, digests: Mapping[str, str]) -> Path:
    """Write path → SHA-256 in the format of `sha256sum`, and return the file."""
    lines = (f"{digest}  {path}\n" for path, digest in sorted(digests.items()))
    write_bytes(out / CHECKSUMS, "".join(lines).encode())
    return out / CHECKSUMS


def _write_table(
    exporter: ExportFormat, source: ExportSource, parts: Sequence[Part], out: Path, contents: Contents
) -> Path:
    """Write the row of each sample, and count the sample in `contents`."""
    first = parts[0]
    contents.location_columns = tuple(exporter.locate(first, source.samples(first)[0]))
    rows = _rows(exporter, source, parts, contents)
    return write_csv(out / exporter.table, [*contents.location_columns, *source.column_types], rows)


def _rows(
    exporter: ExportFormat, source: ExportSource, parts: Sequence[Part], contents: Contents
) -> Iterator[dict[str, Any]]:
    for part in parts:
        for sample in source.samples(part):
            contents.add(sample)
            yield {**exporter.locate(part, sample), **sample.row()}
