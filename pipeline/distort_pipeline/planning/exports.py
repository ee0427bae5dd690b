"""The plan of an export: the samples of each batch, and the new reference tiles of each part."""

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
        starts = dict(zip(*_batch_starts(columns["batch"][all_samples[name]], all_samples[name]), strict=True))
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


def _batch_starts(batches: NDArray[Any], indices: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    numbers, starts = np.unique(batches, return_index=True)
    return numbers.tolist(), indices[starts].tolist()


def _by_batch(batches: NDArray[Any], indices: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    numbers, starts = np.unique(batches[indices], return_index=True)
    return list(zip(numbers.tolist(), np.split(indices, starts[1:]), strict=True))
