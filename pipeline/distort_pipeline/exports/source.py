"""The source of an export: a corpus, its added labels, and the label used as the score."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.metric_names import COMPUTED, LOWER_IS_BETTER, label_column
from distort_pipeline.pixels import Image
from distort_pipeline.planning.exports import Part
from distort_pipeline.records import SampleRecord, digest_rows, row
from distort_pipeline.seeds import derive_seed
from distort_pipeline.stores.arrays import pixel_digest
from distort_pipeline.stores.corpora import PRISTINE, CorpusStore, distorted_array, open_corpus
from distort_pipeline.stores.labels import LabelStore, labels_of

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Score:
    """The label used by formats with a score for each sample."""

    name: str  # as given with --label
    column: str  # in tables
    lower_better: bool
    of_people: bool
    rated: bool = False  # by people, one image at a time
    extremes: tuple[float, float] | None = None  # the lowest and the highest rating

    @property
    def description(self) -> str:
        """The score in words, for a card."""
        origin = "ratings by people" if self.of_people else "computed from the pixels, nobody's opinion"
        return f"`{self.column}` ({origin}; {'lower' if self.lower_better else 'higher'} is better)"


@dataclass(frozen=True)
class Exported:
    """A sample of an export: its record, and its labels by column."""

    record: SampleRecord
    labels: Mapping[str, Value]
    score: float | None
    accepted: bool  # whether its batch is within the acceptance thresholds of its model
    distortion_number: int  # index of its distortion in the corpus
    untouched: bool  # whether its pixels are known to equal its reference tile's

    def row(self) -> dict[str, Value]:
        """Return column → value, in the order of `ExportSource.column_types`."""
        plain = {name: value for name, value in row(self.record).items() if name not in COMPUTED}
        ordered = {name: plain.pop(name) for name in FIRST}
        return {**ordered, **self.labels, "accepted": self.accepted, **plain}


FIRST = ("distortion", "level", "severity", "sample", "tile", "image", "split", "y", "x", "height", "width")


@dataclass(frozen=True)
class StudySettings:
    """Seed and length of a subjective study."""

    seed: int = 0
    sessions: int = 20
    trials: int = 60

    def plan(self, kind: str) -> dict[str, int]:
        """Return the arguments of `plan_sessions` for one kind of trials."""
        return {"sessions": self.sessions, "trials": self.trials, "seed": derive_seed(self.seed, kind)}


class ExportSource:
    """A corpus to be exported, opened again in each worker."""

    def __init__(
        self,
        folder: Path,
        label: str,
        study: StudySettings = StudySettings(),
        labels: Container[str] | None = None,
    ) -> None:
        self.study = study
        self.corpus: CorpusStore = open_corpus(folder)
        self.added: tuple[LabelStore, ...] = tuple(
            store for store in labels_of(self.corpus) if labels is None or store.name in labels
        )
        self.score = self._score(label)

    @cached_property
    def label_columns(self) -> dict[str, type]:
        """The columns of all labels and the types of their values, in order."""
        computed = {label_column(name, lower_better=LOWER_IS_BETTER[name]): float for name in COMPUTED}
        return {**computed, **{column: kind for store in self.added for column, kind in store.columns.items()}}

    @cached_property
    def column_types(self) -> dict[str, type]:
        """The columns of an `Exported.row` and the types of their values; all except FIRST can be None."""
        plain = {name: plain_type(hint) for name, hint in get_type_hints(SampleRecord).items() if name not in COMPUTED}
        first = {name: plain.pop(name) for name in FIRST}
        return {**first, **self.label_columns, "accepted": bool, **plain}

    @property
    def label_digests(self) -> dict[str, str]:
        """The digest of each added label, part of the export's identity."""
        return {store.name: store.metadata["digest"] for store in self.added}

    def samples(self, part: Part) -> list[Exported]:
        """Return the samples of a part, in order; PipelineError if records or labels do not match the ledgers."""
        records = self.corpus.batch_records(part.batch)
        if digest_rows(records) != self._ledger[part.batch].get("records"):
            raise PipelineError(
                f"{self.corpus.folder}: the records of {part.batch} have changed since they were written; "
                "`distort-pipeline verify` lists all damage"
            )
        added = [store.rows(part.batch) for store in self.added]
        accepted = part.batch not in self.flagged
        return [self._exported(records[index], [rows[index] for rows in added], accepted) for index in part.rows]

    def new_tiles(self, part: Part) -> Iterator[tuple[int, Image]]:
        """Yield number and pixels of the new reference tiles of a part."""
        yield from zip(part.new_tiles, self.corpus.images(PRISTINE, part.new_tiles), strict=True)

    def pixels(self, part: Part, samples: list[Exported]) -> Iterator[tuple[Exported, Image]]:
        """Yield each of the `samples` of a part with its pixels; PipelineError if pixels and records differ."""
        slots = [sample.record.slot for sample in samples]
        images = self.corpus.images(distorted_array(part.condition), slots)
        for sample, image in zip(samples, images, strict=True):
            if pixel_digest([image]) != sample.record.pixel_digest:
                raise PipelineError(
                    f"{self.corpus.folder}: sample {sample.record.sample} has other pixels than when it was made; "
                    "`distort-pipeline verify` lists all damage"
                )
            yield sample, image

    def pairs(self, part: Part) -> Iterator[tuple[Exported, Image, Image]]:
        """Yield each sample of a part with its reference tile and its pixels."""
        samples = self.samples(part)
        references = self.corpus.images(PRISTINE, [sample.record.tile for sample in samples])
        for (sample, image), reference in zip(self.pixels(part, samples), references, strict=True):
            yield sample, reference, image

    @cached_property
    def flagged(self) -> frozenset[str]:
        """The rejected batches."""
        return frozenset(name for name, entry in self._ledger.items() if entry.get("accepted") is False)

    @cached_property
    def _ledger(self) -> dict[str, dict[str, Any]]:
        return {entry["shard"]: entry for entry in self.corpus.ledger()}

    @cached_property
    def _computed(self) -> frozenset[str]:
        return frozenset(self.corpus.metadata["settings"]["generate"]["metrics"])

    def _exported(self, record: SampleRecord, added: list[dict[str, Any]], accepted: bool) -> Exported:
        labels: dict[str, Value] = {
            label_column(name, lower_better=LOWER_IS_BETTER[name]): getattr(record, name) for name in COMPUTED
        }
        for columns in added:
            labels.update(columns)
        score = labels[self.score.column]
        number = self.corpus.distortions.index(record.distortion)
        untouched = "psnr" in self._computed and record.psnr is None  # identical images have no PSNR
        return Exported(record, labels, None if score is None else float(score), accepted, number, untouched)

    def _score(self, label: str) -> Score:
        known = {
            name: Score(name, label_column(name, lower_better=LOWER_IS_BETTER[name]), LOWER_IS_BETTER[name], False)
            for name in COMPUTED
        }
        for store in self.added:
            known[store.name] = Score(
                store.name, store.column, store.metadata["lower_better"], store.of_people, store.rated, store.extremes
            )
        for score in list(known.values()):
            known.setdefault(score.column, score)
        if label not in known:
            names = {score.name for score in known.values()}
            raise PipelineError(f"{self.corpus.folder} has no label {label!r}{did_you_mean(label, names)}")
        return known[label]


def parameters_text(parameters: str) -> str:
    """Return canonical JSON parameters as text.

    >>> parameters_text('{"quality":12}'), parameters_text("{}")
    ('quality 12', 'external pairs')
    """
    text = ", ".join(f"{name} {value:g}" for name, value in json.loads(parameters).items())
    return text or "external pairs"


def plain_type(hint: Any) -> type:
    """Return the type of a value other than None.

    >>> plain_type(float | None), plain_type(str)
    (<class 'float'>, <class 'str'>)
    """
    return next((kind for kind in get_args(hint) if kind is not NoneType), hint)
