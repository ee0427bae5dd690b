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
    condition: str  # one distortion at one level: that of all samples of a batch
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

    `columns` holds condition, batch and tile of each sample of the corpus, in order; `names` are its condition. A limit takes
    tiles that are spread over the corpus, and so over its photographs, and of all condition the same, so that distortions,
    and all levels of them, share their reference tiles.
    """
    own = {name: np.flatnonzero(columns["conditions"] == name) for name in names}
    kept = {name: places[wanted[places]] for name, places in own.items()}
    available = [len(places) for places in kept.values()]
    quotas = available if limit is None else even_quotas(available, limit)
    tiles = columns["tile"]
    ranks = _spread_ranks(np.unique(tiles[wanted]))
    seen = np.zeros(int(tiles.max(initial=0)) + 1, bool)
    parts: list[Part] = []
    for (name, places), quota in zip(kept.items(), quotas, strict=True):
        if not quota:
            continue
        first_of = dict(zip(*_first_places(columns["batch"][own[name]], own[name]), strict=True))
        taken = np.sort(places[_spread_order(tiles[places], ranks)[:quota]])
        for number, chosen in _by_batch(columns["batch"], taken):
            used = np.unique(tiles[chosen])
            new = used[~seen[used]]
            seen[new] = True
            rows = chosen - first_of[number]
            parts.append(Part(f"{name}-{number:05d}", name, tuple(rows.tolist()), tuple(new.tolist())))
    return tuple(parts)


def _spread_ranks(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank of each tile, by its number: those of the first ranks, however many, lie evenly among all.

    By the bits of their places read backwards.

    >>> _spread_ranks(np.arange(8)).tolist()
    [0, 4, 2, 6, 1, 5, 3, 7]
    """
    bits = max(len(numbers) - 1, 1).bit_length()
    places = np.arange(len(numbers))
    backwards = sum(((places >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))
    ranks = np.zeros(int(numbers.max(initial=0)) + 1, np.int64)
    ranks[numbers] = np.argsort(np.argsort(backwards))
    return ranks


def _spread_order(tiles: NDArray[np.int64], ranks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the order in which the samples of `tiles` are taken: one of each tile first, then the second ones."""
    by_tile = np.argsort(tiles, kind="stable")
    _, starts, counts = np.unique(tiles[by_tile], return_index=True, return_counts=True)
    turns = np.empty(len(tiles), np.int64)
    turns[by_tile] = np.arange(len(tiles)) - np.repeat(starts, counts)
    return np.lexsort((ranks[tiles], turns))


def _first_places(batches: NDArray[Any], places: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    numbers, starts = np.unique(batches, return_index=True)
    return numbers.tolist(), places[starts].tolist()


def _by_batch(batches: NDArray[Any], places: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    numbers, starts = np.unique(batches[places], return_index=True)
    return list(zip(numbers.tolist(), np.split(places, starts[1:]), strict=True))
