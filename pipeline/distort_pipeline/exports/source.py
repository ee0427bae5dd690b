"""The source of an export: a corpus, its added labels, and the label used as the score."""

from __future__ import annotations

import json
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.data.arrays import pixel_digest
from distort_pipeline.data.corpora import PRISTINE, CorpusStore, distorted_array, open_corpus
from distort_pipeline.data.labels import LabelStore, labels_of
from distort_pipeline.data.leases import LedgerEntry
from distort_pipeline.data.plans import even_quotas
from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.metrics.full_reference import COMPUTED, LOWER_IS_BETTER, label_column
from distort_pipeline.records import CONDITION_LABELS, Image, SampleRecord, derive_seed, digest_rows, row


@dataclass(frozen=True)
class Part:
    """The exported samples of a batch of a corpus, written by one task."""

    batch: str  # its name in the corpus
    condition: str  # name of the condition of all samples of the batch
    rows: tuple[int, ...]  # indices of the samples in the batch
    new_tiles: tuple[int, ...]  # reference tiles not in earlier parts, for formats with shared tiles

    @property
    def samples(self) -> int:
        """The number of samples."""
        return len(self.rows)


def matching(columns: Mapping[str, NDArray[Any]], selected: Mapping[str, Collection[Any]]) -> NDArray[np.bool_]:
    """Return a mask (samples,) of the `selected` values in all columns; an empty selection means all values.

    PipelineError for a value without samples.

    >>> matching({"level": np.array([1, 2, 1])}, {"level": [1]}).tolist()
    [True, False, True]
    """
    mask = np.ones(len(next(iter(columns.values()))), bool)
    for name, values in selected.items():
        known = np.unique(columns[name]).tolist()
        for value in values:
            if value not in known:
                hint = did_you_mean(str(value), map(str, known))
                raise PipelineError(f"no sample has the {name} {value!r}{hint}")
        if values:
            mask &= np.isin(columns[name], list(values))
    return mask


def plan_parts(
    columns: Mapping[str, NDArray[Any]], names: Sequence[str], mask: NDArray[np.bool_], limit: int | None
) -> tuple[Part, ...]:
    """Return the parts of an export, in the corpus's order: the samples of `mask`, at most `limit`, evenly distributed.

    `columns` are condition, batch and tile of each sample of the corpus, in order; `names` are the conditions. With a
    limit, tiles are spread over the corpus, and so over its photographs, and are the same in all conditions, so
    distortions and levels share reference tiles.
    """
    all_samples = {name: np.flatnonzero(columns["conditions"] == name) for name in names}
    selected = {name: indices[mask[indices]] for name, indices in all_samples.items()}
    available = [len(indices) for indices in selected.values()]
    quotas = available if limit is None else even_quotas(available, limit)
    tiles = columns["tile"]
    ranks = _spread_ranks(np.unique(tiles[mask]))
    seen = np.zeros(int(tiles.max(initial=0)) + 1, bool)
    parts: list[Part] = []
    for (name, indices), quota in zip(selected.items(), quotas, strict=True):
        if not quota:
            continue
        starts = {number: batch[0] for number, batch in _by_batch(columns["batch"], all_samples[name])}
        quota_indices = np.sort(indices[_spread_order(tiles[indices], ranks)[:quota]])
        for number, chosen in _by_batch(columns["batch"], quota_indices):
            used = np.unique(tiles[chosen])
            new = used[~seen[used]]
            seen[new] = True
            rows = chosen - starts[number]
            parts.append(Part(f"{name}-{number:05d}", name, tuple(rows.tolist()), tuple(new.tolist())))
    return tuple(parts)


def _spread_ranks(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank of each tile, by number: the tiles of the first n ranks are evenly spread, for every n.

    Ranks are the bit-reversed positions (van der Corput sequence).

    >>> _spread_ranks(np.arange(8)).tolist()
    [0, 4, 2, 6, 1, 5, 3, 7]
    """
    bits = max(len(numbers) - 1, 1).bit_length()
    positions = np.arange(len(numbers))
    reversed_bits = sum(((positions >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))
    ranks = np.zeros(int(numbers.max(initial=0)) + 1, np.int64)
    ranks[numbers] = np.argsort(np.argsort(reversed_bits))
    return ranks


def _spread_order(tiles: NDArray[np.int64], ranks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the order of selection of the samples of `tiles`: first samples of all tiles, then second samples."""
    by_tile = np.argsort(tiles, kind="stable")
    _, starts, counts = np.unique(tiles[by_tile], return_index=True, return_counts=True)
    repetitions = np.empty(len(tiles), np.int64)
    repetitions[by_tile] = np.arange(len(tiles)) - np.repeat(starts, counts)
    return np.lexsort((ranks[tiles], repetitions))


def _by_batch(batches: NDArray[Any], indices: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    numbers, starts = np.unique(batches[indices], return_index=True)
    return list(zip(numbers.tolist(), np.split(indices, starts[1:]), strict=True))


COLUMN_OF = {name: label_column(name, lower_better=LOWER_IS_BETTER[name]) for name in COMPUTED}  # of metrics, in tables
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
        computed = "asked of the generator" if self.column in CONDITION_LABELS else "computed from the pixels"
        origin = "ratings by people" if self.of_people else f"{computed}, nobody's opinion"
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
        *,
        with_truth: bool = False,
        manifest: str | None = None,
        pairs: str | None = None,
    ) -> None:
        self.study = study
        self.with_truth = with_truth
        self.corpus: CorpusStore = open_corpus(folder, manifest=manifest, pairs=pairs)
        self.added: tuple[LabelStore, ...] = tuple(
            store for store in labels_of(self.corpus) if labels is None or store.name in labels
        )
        self.score = self._score(label)

    @cached_property
    def label_columns(self) -> dict[str, type]:
        """The columns of all labels and the types of their values, in order."""
        added = {column: kind for store in self.added for column, kind in store.columns.items()}
        return {**dict.fromkeys(COLUMN_OF.values(), float), **added}

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

    def all_samples(self, parts: Sequence[Part]) -> Iterator[Exported]:
        """Yield the samples of all `parts`, one part in memory at a time."""
        for part in parts:
            yield from self.samples(part)

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

    def pairs(self, part: Part) -> Iterator[tuple[Exported, Image, Image, Image | None]]:
        """Yield each sample of a part with its reference tile, its pixels and, if exported, its true distortion."""
        samples = self.samples(part)
        references = self.corpus.images(PRISTINE, [sample.record.tile for sample in samples])
        for (sample, image), reference in zip(self.pixels(part, samples), references, strict=True):
            yield sample, reference, image, self.corpus.true(sample.record) if self.with_truth else None

    @cached_property
    def flagged(self) -> frozenset[str]:
        """The rejected batches."""
        return frozenset(name for name, entry in self._ledger.items() if entry.get("accepted") is False)

    @cached_property
    def _ledger(self) -> dict[str, LedgerEntry]:
        return {entry["shard"]: entry for entry in self.corpus.ledger()}

    @cached_property
    def _computed(self) -> frozenset[str]:
        return frozenset(self.corpus.metadata.settings.generate["metrics"])

    def _exported(self, record: SampleRecord, added: Sequence[Mapping[str, Value]], accepted: bool) -> Exported:
        labels: dict[str, Value] = {column: getattr(record, name) for name, column in COLUMN_OF.items()}
        for columns in added:
            labels.update(columns)
        column = self.score.column
        score = getattr(record, column) if column in CONDITION_LABELS else labels[column]
        number = self.corpus.distortions.index(record.distortion)
        untouched = "psnr" in self._computed and record.psnr is None  # identical images have no PSNR
        return Exported(record, labels, None if score is None else float(score), accepted, number, untouched)

    def _score(self, label: str) -> Score:
        known = {
            name: Score(name, column, LOWER_IS_BETTER[name], of_people=False) for name, column in COLUMN_OF.items()
        }
        known |= {name: Score(name, name, lower_better=True, of_people=False) for name in CONDITION_LABELS}
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
