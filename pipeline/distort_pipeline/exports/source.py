"""What an export is made of: a corpus, the labels that were added to it, and the one that becomes the score."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.labels import COMPUTED, LOWER_IS_BETTER, label_column
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
    """The label that formats with one number a sample carry."""

    name: str  # as the user says it
    column: str  # as tables call it
    lower_better: bool
    of_people: bool
    rated: bool = False  # by people, one image at a time

    @property
    def words(self) -> str:
        """What it is, for a card."""
        origin = "what people said" if self.of_people else "computed from the pixels, nobody's opinion"
        return f"`{self.column}` ({origin}; {'lower' if self.lower_better else 'higher'} is better)"


@dataclass(frozen=True)
class Exported:
    """One sample of an export: its record and its labels, by the names of their columns."""

    record: SampleRecord
    labels: Mapping[str, Value]
    score: float | None
    accepted: bool  # whether its batch lies within the bounds of its model
    distortion_number: int  # place of its distortion among those of the corpus
    untouched: bool  # whether it is known to have the very pixels of its reference tile

    def row(self) -> dict[str, Value]:
        """Return all that is known of it, by column; in their order, `ExportSource.column_types`."""
        plain = {name: value for name, value in row(self.record).items() if name not in COMPUTED}
        ordered = {name: plain.pop(name) for name in FIRST}
        return {**ordered, **self.labels, "accepted": self.accepted, **plain}


FIRST = ("distortion", "level", "severity", "sample", "tile", "image", "split", "y", "x", "height", "width")


@dataclass(frozen=True)
class StudySettings:
    """How long a study with people is."""

    seed: int = 0
    sessions: int = 20
    results: int = 60

    def plan(self, kind: str) -> dict[str, int]:
        """Return what `plan_sessions` wants to know, for one kind of trials."""
        return {"sessions": self.sessions, "trials": self.results, "seed": derive_seed(self.seed, kind)}


class ExportSource:
    """A corpus, to be exported. It is opened again in each worker."""

    def __init__(
        self,
        folder: Path,
        label: str,
        study: StudySettings = StudySettings(),
        labels: Container[str] | None = None,
    ) -> None:
        self.study = study
        self.corpus: CorpusStore = open_corpus(folder)
        there = labels_of(self.corpus)
        self.added: tuple[LabelStore, ...] = tuple(one for one in there if labels is None or one.name in labels)
        self.score = self._score(label)

    @cached_property
    def label_columns(self) -> dict[str, type]:
        """The columns of all labels and the types of their values, in the order of tables."""
        own = {label_column(name, lower_better=LOWER_IS_BETTER[name]): float for name in COMPUTED}
        return {**own, **{column: kind for store in self.added for column, kind in store.columns.items()}}

    @cached_property
    def column_types(self) -> dict[str, type]:
        """The columns of an `Exported.row` and the types of their values; any but FIRST can be None."""
        plain = {name: plain_type(hint) for name, hint in get_type_hints(SampleRecord).items() if name not in COMPUTED}
        first = {name: plain.pop(name) for name in FIRST}
        return {**first, **self.label_columns, "accepted": bool, **plain}

    @property
    def label_digests(self) -> dict[str, str]:
        """The digest of each added label: another one is another export."""
        return {store.name: store.metadata["digest"] for store in self.added}

    def samples(self, part: Part) -> list[Exported]:
        """Return the samples of a part, in order; PipelineError if records or labels are not those of the ledgers."""
        records = self.corpus.batch_records(part.batch)
        if digest_rows(records) != self._ledger[part.batch].get("records"):
            raise PipelineError(
                f"{self.corpus.folder}: the records of {part.batch} are other than when they were made; "
                "`distort-pipeline verify` names all that is damaged"
            )
        added = [store.rows(part.batch) for store in self.added]
        within = part.batch not in self.flagged
        return [self._exported(records[place], [rows[place] for rows in added], within) for place in part.rows]

    def new_tiles(self, part: Part) -> Iterator[tuple[int, Image]]:
        """Yield number and pixels of the reference tiles that are new with a part."""
        yield from zip(part.new_tiles, self.corpus.images(PRISTINE, part.new_tiles), strict=True)

    def pixels(self, part: Part, samples: list[Exported]) -> Iterator[tuple[Exported, Image]]:
        """Yield each of the `samples` of a part with its pixels; PipelineError if these are not as recorded."""
        slots = [sample.record.slot for sample in samples]
        found = self.corpus.images(distorted_array(part.condition), slots)
        for sample, image in zip(samples, found, strict=True):
            if pixel_digest([image]) != sample.record.pixel_digest:
                raise PipelineError(
                    f"{self.corpus.folder}: sample {sample.record.sample} has other pixels than when it was made; "
                    "`distort-pipeline verify` names all that is damaged"
                )
            yield sample, image

    def pairs(self, part: Part) -> Iterator[tuple[Exported, Image, Image]]:
        """Yield each sample of a part with its reference tile and its own pixels."""
        samples = self.samples(part)
        references = self.corpus.images(PRISTINE, [sample.record.tile for sample in samples])
        for (sample, image), reference in zip(self.pixels(part, samples), references, strict=True):
            yield sample, reference, image

    @cached_property
    def flagged(self) -> frozenset[str]:
        """The batches that are out of the bounds of their models."""
        return frozenset(name for name, entry in self._ledger.items() if entry.get("accepted") is False)

    @cached_property
    def _ledger(self) -> dict[str, dict[str, Any]]:
        return {entry["shard"]: entry for entry in self.corpus.ledger()}

    @cached_property
    def _computed(self) -> frozenset[str]:
        return frozenset(self.corpus.metadata["settings"]["generate"]["labels"])

    def _exported(self, record: SampleRecord, added: list[dict[str, Any]], accepted: bool) -> Exported:
        labels: dict[str, Value] = {
            label_column(name, lower_better=LOWER_IS_BETTER[name]): getattr(record, name) for name in COMPUTED
        }
        for columns in added:
            labels.update(columns)
        score = labels[self.score.column]
        number = self.corpus.distortions.index(record.distortion)
        untouched = "psnr" in self._computed and record.psnr is None  # identical images have none
        return Exported(record, labels, None if score is None else float(score), accepted, number, untouched)

    def _score(self, label: str) -> Score:
        known = {
            name: Score(name, label_column(name, lower_better=LOWER_IS_BETTER[name]), LOWER_IS_BETTER[name], False)
            for name in COMPUTED
        }
        for store in self.added:
            known[store.name] = Score(
                store.name, store.column, store.metadata["lower_better"], store.of_people, store.rated
            )
        for score in list(known.values()):
            known.setdefault(score.column, score)
        if label not in known:
            names = {score.name for score in known.values()}
            raise PipelineError(f"{self.corpus.folder} has no label {label!r}{did_you_mean(label, names)}")
        return known[label]


def parameters_text(parameters: str) -> str:
    """Return canonical JSON parameters for people.

    >>> parameters_text('{"quality":12}'), parameters_text("{}")
    ('quality 12', 'pairs that somebody brought')
    """
    said = ", ".join(f"{name} {value:g}" for name, value in json.loads(parameters).items())
    return said or "pairs that somebody brought"


def plain_type(hint: Any) -> type:
    """Return what a value is if it is not None.

    >>> plain_type(float | None), plain_type(str)
    (<class 'float'>, <class 'str'>)
    """
    return next((kind for kind in get_args(hint) if kind is not NoneType), hint)
