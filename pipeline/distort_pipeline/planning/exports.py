"""The plan of an export: which samples of which batches, and which reference tiles each part brings along."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.planning.corpora import even_quotas


@dataclass(frozen=True)
class Part:
    """Those samples of one batch of a corpus that are exported; one task writes them."""

    batch: str  # its name in the corpus
    series: str  # one distortion at one level: that of all samples of a batch
    rows: tuple[int, ...]  # places of the samples in the batch
    new_tiles: tuple[int, ...]  # reference tiles that no earlier part of this export has, for formats that share them

    @property
    def samples(self) -> int:
        """How many samples it has."""
        return len(self.rows)


def matching(columns: Mapping[str, NDArray[Any]], wanted: Mapping[str, Collection[Any]]) -> NDArray[np.bool_]:
    """Return (samples,) which of the samples have one of the `wanted` values in each column; none wanted means all.

    PipelineError for a value that no sample has.

    >>> matching({"level": np.array([1, 2, 1])}, {"level": [1]}).tolist()
    [True, False, True]
    """
    fitting = np.ones(len(next(iter(columns.values()))), bool)
    for name, values in wanted.items():
        known = np.unique(columns[name]).tolist()
        for value in values:
            if value not in known:
                near = did_you_mean(str(value), map(str, known))
                raise PipelineError(f"no sample has the {name} {value!r}{near}")
        if values:
            fitting &= np.isin(columns[name], list(values))
    return fitting


def plan_parts(
    columns: Mapping[str, NDArray[Any]], names: Sequence[str], wanted: NDArray[np.bool_], limit: int | None
) -> tuple[Part, ...]:
    """Return the parts of an export, in the corpus's order: the `wanted` samples, evenly up to `limit` in all.

    `columns` holds series, batch and tile of each sample of the corpus, in order; `names` are its series. A limit takes
    the first samples of each, so that distortions, and all levels of them, share their reference tiles.
    """
    own = {name: np.flatnonzero(columns["series"] == name) for name in names}
    kept = {name: places[wanted[places]] for name, places in own.items()}
    available = [len(places) for places in kept.values()]
    quotas = available if limit is None else even_quotas(available, limit)
    tiles = columns["tile"]
    seen = np.zeros(int(tiles.max(initial=0)) + 1, bool)
    parts: list[Part] = []
    for (name, places), quota in zip(kept.items(), quotas, strict=True):
        if not quota:
            continue
        first_of = dict(zip(*_first_places(columns["batch"][own[name]], own[name]), strict=True))
        for number, chosen in _by_batch(columns["batch"], places[:quota]):
            used = np.unique(tiles[chosen])
            new = used[~seen[used]]
            seen[new] = True
            rows = chosen - first_of[number]
            parts.append(Part(f"{name}-{number:05d}", name, tuple(rows.tolist()), tuple(new.tolist())))
    return tuple(parts)


def _first_places(batches: NDArray[Any], places: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    numbers, starts = np.unique(batches, return_index=True)
    return numbers.tolist(), places[starts].tolist()


def _by_batch(batches: NDArray[Any], places: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    numbers, starts = np.unique(batches[places], return_index=True)
    return list(zip(numbers.tolist(), np.split(places, starts[1:]), strict=True))
