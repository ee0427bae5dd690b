"""Reads and checks the batch reports of a corpus."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from distort_pipeline.errors import PipelineError

STORE_FORMAT, REPORT_FORMAT, VERSION = "distort-pipeline/corpus", "distort-pipeline/report", 3


@dataclass(frozen=True)
class BatchRow:
    """A batch's report, with its main values."""

    report: Mapping[str, Any]
    distortion: str
    level: int | None  # None if its distortion has a single level
    number: int
    flagged: bool
    jsd: float  # bits, of the report's comparison
    threshold: float  # bits
    image: Path  # of its side-by-side image, which may be missing

    @property
    def name(self) -> str:
        """The batch's displayed name."""
        return f"{self.kind} {self.number}"

    @property
    def kind(self) -> str:
        """Distortion, and level if there are several."""
        return self.distortion if self.level is None else f"{self.distortion} level {self.level},"

    @property
    def key(self) -> str:
        """The stem of the batch's file names."""
        return self.image.stem

    @property
    def link(self) -> str:
        """The relative URL of the side-by-side image."""
        return f"{quote(self.image.parent.name)}/{quote(self.image.name)}"


def read_store(corpus: Path) -> dict[str, Any]:
    """Return the store.json of the folder `corpus`; PipelineError if it is missing or of an unknown version."""
    return _read(corpus / "store.json", STORE_FORMAT)


def read_batches(folder: Path) -> list[BatchRow]:
    """Return the reports in `folder`, by distortion, level and number."""
    batches = [_batch(path) for path in folder.glob("*.json")]
    levels = Counter(name for name, _ in {(batch.distortion, batch.level) for batch in batches})
    labelled = [batch if levels[batch.distortion] > 1 else replace(batch, level=None) for batch in batches]
    return sorted(labelled, key=lambda batch: (batch.distortion, batch.level or 0, batch.number))


def _batch(path: Path) -> BatchRow:
    report = _read(path, REPORT_FORMAT)
    comparison = report.get(str(report.get("comparison")))
    missing = {"distortion", "level", "batch", "samples", "accepted"} - set(report)
    if missing or not isinstance(comparison, Mapping) or not {"jsd_bits", "threshold_bits"} <= set(comparison):
        fields = ", ".join(sorted(missing)) or "the divergence and threshold of its comparison"
        raise PipelineError(f"the report {path.name} lacks {fields}; generate that batch again")
    return BatchRow(
        report=report,
        distortion=str(report["distortion"]),
        level=int(report["level"]),
        number=int(report["batch"]),
        flagged=not report["accepted"],
        jsd=float(comparison["jsd_bits"]),
        threshold=float(comparison["threshold_bits"]),
        image=path.with_name(f"{path.stem}.png"),
    )


def _read(path: Path, form: str) -> dict[str, Any]:
    """Return the JSON object at `path`; PipelineError unless its format is `form` and its version VERSION."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"there is no {path.name} in {path.parent}; is that the folder of a corpus?") from None
    except ValueError as error:
        raise PipelineError(f"{path} is not JSON: {error}") from None
    if not isinstance(document, dict) or document.get("format") != form:
        raise PipelineError(f"{path} is not a {form} document")
    if document.get("version") != VERSION:
        raise PipelineError(f"{path} is of version {document.get('version')!r}; this program reads {VERSION} only")
    return document
