"""Ranked pairs for pairwise training: a reference tile, a better and a worse image of the tile.

export/ranked.csv            reference,better,worse,evidence,score_better,score_worse,split,...
export/ranked_train.csv      the pairs of each split
export/pristine/..., export/distorted/...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from distort_pipeline.data.files import write_csv
from distort_pipeline.exports import EXPORTS, Exported, ExportSource, Part, PngTree, Score

COLUMNS = (
    "reference", "better", "worse", "evidence", "score_better", "score_worse",
    "distortion_better", "distortion_worse", "level_better", "level_worse", "image", "split",
)  # fmt: skip
PRISTINE = "pristine"


@EXPORTS.add("ranked")
class Ranked(PngTree):
    """Images in folders, and every ranked pair of images of the same tile."""

    about = """
`ranked.csv`, and `ranked_train.csv` and so on for each split, have the columns `reference`, `better` and `worse`, paths
relative to this folder. `evidence` is the basis of the order: `pristine` if the better image is the reference itself,
else the score named above. Pairs of equal scores, and unchanged samples, are omitted. The larger the difference of
`score_better` and `score_worse`, the more reliable the order. Levels of a distortion count from 1, the mildest.
"""

    def finish(self, source: ExportSource, parts: Sequence[Part], out: Path) -> list[Path]:
        """Write the pairs of all samples, and the pairs of each split."""
        by_tile: dict[int, list[Exported]] = {}
        for sample in source.all_samples(parts):
            by_tile.setdefault(sample.record.tile, []).append(sample)
        splits = sorted({samples[0].record.split for samples in by_tile.values()})
        files = [write_csv(out / "ranked.csv", COLUMNS, self._rows(source.score, by_tile, splits))]
        for split in splits:
            files.append(write_csv(out / f"ranked_{split}.csv", COLUMNS, self._rows(source.score, by_tile, [split])))
        return files

    def _rows(self, score: Score, by_tile: dict[int, list[Exported]], splits: Sequence[str]) -> Iterator[list[object]]:
        for _, samples in sorted(by_tile.items()):
            record = samples[0].record
            if record.split not in splits:
                continue
            reference = self.reference_path(samples[0])
            origin = [record.image, record.split]
            for worse in samples:
                if worse.untouched:
                    continue
                scores = [PRISTINE, None, worse.score, None, worse.record.distortion, None, worse.record.level]
                yield [reference, reference, self.sample_path(worse), *scores, *origin]
            for better, worse in ordered_pairs(samples, lower_better=score.lower_better):
                both = (better.record, worse.record)
                scores = [score.column, better.score, worse.score]
                conditions = [record.distortion for record in both] + [record.level for record in both]
                yield [reference, self.sample_path(better), self.sample_path(worse), *scores, *conditions, *origin]


def ordered_pairs(samples: Sequence[Exported], *, lower_better: bool) -> Iterator[tuple[Exported, Exported]]:
    """Yield (better, worse) of every two `samples` with different scores."""
    for first, second in combinations(samples, 2):
        if first.score is None or second.score is None or first.score == second.score:
            continue
        first_is_better = (first.score < second.score) == lower_better
        yield (first, second) if first_is_better else (second, first)
