"""The reports of a corpus's batches, read and checked: what its page is made of."""

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
    """One batch's report, with what the page says of it most often."""

    report: Mapping[str, Any]
    distortion: str
    level: int | None  # None where its distortion comes at one only
    number: int
    flagged: bool
    jsd: float  # bits, by the comparison that it was judged by
    threshold: float  # bits, of the same comparison
    image: Path  # of its strip, whether or not there is one

    @property
    def name(self) -> str:
        """Its name for people."""
        return f"{self.kind} {self.number}"

    @property
    def kind(self) -> str:
        """What it is a batch of, for people."""
        return self.distortion if self.level is None else f"{self.distortion} level {self.level},"

    @property
    def key(self) -> str:
        """The name of its files."""
        return self.image.stem

    @property
    def link(self) -> str:
        """The address of its strip, from the page."""
        return f"{quote(self.image.parent.name)}/{quote(self.image.name)}"


def read_store(corpus: Path) -> dict[str, Any]:
    """Return the store.json of the folder `corpus`; PipelineError if it is missing or of an unknown version."""
    return _read(corpus / "store.json", STORE_FORMAT)


def read_batches(folder: Path) -> list[BatchRow]:
    """Return the reports in `folder`, by distortion, level and number."""
    found = [_batch(path) for path in folder.glob("*.json")]
    several = Counter(name for name, _ in {(batch.distortion, batch.level) for batch in found})
    told = [batch if several[batch.distortion] > 1 else replace(batch, level=None) for batch in found]
    return sorted(told, key=lambda batch: (batch.distortion, batch.level or 0, batch.number))


def _batch(path: Path) -> BatchRow:
    report = _read(path, REPORT_FORMAT)
    judged = report.get(str(report.get("judged_by")))
    lacking = {"distortion", "level", "batch", "samples", "accepted"} - set(report)
    if lacking or not isinstance(judged, Mapping) or not {"jsd_bits", "threshold_bits"} <= set(judged):
        wanted = ", ".join(sorted(lacking)) or "the divergence and the bound that it was judged by"
        raise PipelineError(f"the report {path.name} lacks {wanted}; generate that batch again")
    return BatchRow(
        report=report,
        distortion=str(report["distortion"]),
        level=int(report["level"]),
        number=int(report["batch"]),
        flagged=not report["accepted"],
        jsd=float(judged["jsd_bits"]),
        threshold=float(judged["threshold_bits"]),
        image=path.with_name(f"{path.stem}.png"),
    )


def _read(path: Path, form: str) -> dict[str, Any]:
    """Return the JSON object at `path`, which must say that it is of the format `form` and of our version."""
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
