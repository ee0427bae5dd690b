"""A subjective study: images under anonymous names, and balanced, seeded lists of trials.

export/stimuli/3f9a….png         samples and reference tiles, named by part of a digest
export/acr_trials.csv            one image at a time, to be rated from 1 (bad) to 5 (excellent)
export/pairwise_trials.csv       two images of one tile side by side: which is better, left or right?

`distort-pipeline label --table` reads the lists with the column `score` or `choice` filled in.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from distort_pipeline.exports import EXPORTS, Exported, ExportSource, Part
from distort_pipeline.exports.png_tree import PngTree
from distort_pipeline.planning.studies import ANCHOR, plan_sessions
from distort_pipeline.seeds import derive_seed
from distort_pipeline.stores.streams import write_csv

NAME_DIGITS = 16
PRISTINE = -1  # represents the reference tile in a pair
Pair = tuple[int, int]
ACR_COLUMNS = ("session", "position", "kind", "stimulus", "sample", "score")
PAIR_COLUMNS = ("session", "position", "kind", "left", "right", "left_sample", "right_sample", "choice")


@EXPORTS.add("study")
class Study(PngTree):
    """Stimuli and trials of a subjective study, with the sample numbers for the ratings."""

    scored = False
    about = """
`stimuli/` holds all images under anonymous names. Two lists have the trials of all sessions:

- `acr_trials.csv`: one image (`stimulus`) at a time, rated from 1 (bad) to 5 (excellent) in `score` (absolute
  category rating, ITU-T P.910).
- `pairwise_trials.csv`: `left` and `right`, two images of one tile; `choice` is the better image: `left`, `right` or
  `same`.

`kind` is `sample`; `repeat` for a repetition in the same session, in pairs with the sides swapped; or `anchor` for a
known rating: a pristine image, or a pair of the pristine image and the most damaged sample of its tile. All samples are
shown about equally often. Fill in the ratings, and add the list to the corpus:

```sh
distort-pipeline label CORPUS --table acr_trials.csv --name rating
```

Studies need the consent of the participants, and possibly the approval of an ethics board. `session` must not identify
participants.
"""

    def reference_path(self, sample: Exported) -> str:
        """Return the path of the reference tile of a sample."""
        return f"stimuli/{_name('tile', sample.record.image, sample.record.tile)}.png"

    def sample_path(self, sample: Exported) -> str:
        """Return the path of a sample."""
        return f"stimuli/{_name('sample', sample.record.pixel_digest, sample.record.sample)}.png"

    def finish(self, source: ExportSource, parts: Sequence[Part], out: Path) -> list[Path]:
        """Write both lists of trials."""
        samples = {sample.record.sample: sample for part in parts for sample in source.samples(part)}
        single = self._single(source, samples)
        pairs = self._pairs(source, samples)
        return [
            write_csv(out / "acr_trials.csv", ACR_COLUMNS, single),
            write_csv(out / "pairwise_trials.csv", PAIR_COLUMNS, pairs),
        ]

    def _single(self, source: ExportSource, samples: Mapping[int, Exported]) -> Iterator[list[object]]:
        by_condition: dict[str, list[int]] = {}
        for number, sample in samples.items():
            by_condition.setdefault(_condition(sample), []).append(number)
        first_of_tile = {sample.record.tile: number for number, sample in reversed(list(samples.items()))}
        trials = plan_sessions(by_condition, sorted(first_of_tile.values()), **source.study.plan("acr"))
        for trial in trials:
            sample = samples[trial.stimulus]
            pristine = trial.kind == ANCHOR
            path = self.reference_path(sample) if pristine else self.sample_path(sample)
            yield [trial.session, trial.position, trial.kind, path, None if pristine else trial.stimulus, None]

    def _pairs(self, source: ExportSource, samples: Mapping[int, Exported]) -> Iterator[list[object]]:
        by_tile: dict[int, list[int]] = {}
        for number, sample in samples.items():
            by_tile.setdefault(sample.record.tile, []).append(number)
        by_conditions: dict[str, list[Pair]] = {}
        for numbers in by_tile.values():
            for pair in combinations(numbers, 2):
                by_conditions.setdefault(" ".join(_condition(samples[n]) for n in pair), []).append(pair)
        damaged = [[number for number in numbers if not samples[number].untouched] for numbers in by_tile.values()]
        anchors = [(PRISTINE, max(tile, key=lambda number: _damage(samples[number]))) for tile in damaged if tile]
        showings: Counter[Pair] = Counter()
        for trial in plan_sessions(by_conditions, anchors, **source.study.plan("pairwise")):
            first, second = trial.stimulus
            if (showings[trial.stimulus] + derive_seed(source.study.seed, first, second)) % 2:
                first, second = second, first
            showings[trial.stimulus] += 1  # next time, also in a repeat, with the sides swapped
            paths = [
                self.reference_path(samples[other]) if number == PRISTINE else self.sample_path(samples[number])
                for number, other in ((first, second), (second, first))
            ]
            shown = [None if number == PRISTINE else number for number in (first, second)]
            yield [trial.session, trial.position, trial.kind, *paths, *shown, None]


def _condition(sample: Exported) -> str:
    """Return the condition of a sample, for balanced trials: a distortion at a level."""
    return f"{sample.record.distortion} {sample.record.level}"


def _damage(sample: Exported) -> tuple[float, float]:
    """Return the sort key of damage: 1 - SSIM if computed, then severity."""
    ssim = sample.record.ssim
    return (0.0 if ssim is None else 1 - ssim), sample.record.severity


def _name(*parts: str | int) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:NAME_DIGITS]
