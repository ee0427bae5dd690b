"""A subjective study: images under anonymous names, and balanced, seeded lists of trials.

export/stimuli/3f9a….png         samples and reference tiles, named by part of a digest
export/acr_trials.csv            one image at a time, to be rated from 1 (bad) to 5 (excellent)
export/pairwise_trials.csv       two images of one tile side by side: which is better, left or right?

`distort-pipeline label --table` reads the lists with the column `score` or `choice` filled in.

All stimuli are shown about equally often, distortions alternate over the whole study, and the order within a session is
random. Repeated trials measure the reliability of the ratings; anchors are stimuli with a known rating.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from distort_pipeline.data.files import write_csv
from distort_pipeline.exports import EXPORTS, Exported, ExportSource, Part, PngTree
from distort_pipeline.records import derive_seed, make_rng

Stimulus = TypeVar("Stimulus", bound=Hashable)

SAMPLE, REPEAT, ANCHOR = "sample", "repeat", "anchor"
SHARE = 10  # 1 trial in 10 is a repeat, 1 an anchor


@dataclass(frozen=True)
class Trial(Generic[Stimulus]):
    """A presentation of a stimulus in a session."""

    session: int
    position: int
    kind: str  # sample, repeat or anchor
    stimulus: Stimulus


def plan_sessions(
    groups: Mapping[str, Sequence[Stimulus]],
    anchors: Sequence[Stimulus],
    *,
    sessions: int,
    trials: int,
    seed: int,
) -> list[Trial[Stimulus]]:
    """Return the trials of all sessions, `trials` in each, or fewer for want of stimuli.

    `groups` are the stimuli by the variable to be balanced, such as distortion and level. Within a session, stimuli
    recur only as repeats, at least a quarter of the session after the first presentation.

    >>> shown = plan_sessions({"jpeg": [1, 2, 3], "noise": [4, 5, 6]}, [0], sessions=2, trials=10, seed=0)
    >>> sorted(trial.stimulus for trial in shown if trial.session == 0)
    [0, 1, 2, 3, 3, 4, 5, 6]
    """
    rng = make_rng(seed)
    extra = max(trials // SHARE, 1)
    samples = min(trials - 2 * extra, sum(map(len, groups.values())))
    deck = _Deck(groups, rng)
    anchor_deck = _Deck({ANCHOR: anchors}, rng)
    planned: list[Trial[Stimulus]] = []
    for session in range(sessions):
        shown = deck.deal(samples)
        rng.shuffle(shown)
        order = [(SAMPLE, stimulus) for stimulus in shown]
        for stimulus in anchor_deck.deal(min(extra, len(anchors))):
            order.insert(int(rng.integers(len(order) + 1)), (ANCHOR, stimulus))
        order = _with_repeats(order, min(extra, samples), rng)
        planned += [Trial(session, position, kind, stimulus) for position, (kind, stimulus) in enumerate(order)]
    return planned


def _with_repeats(
    order: list[tuple[str, Stimulus]], count: int, rng: np.random.Generator
) -> list[tuple[str, Stimulus]]:
    """Return `order` with `count` samples of its first half repeated, at least a quarter of the session later."""
    firsts = [position for position, (kind, _) in enumerate(order[: max(len(order) // 2, 1)]) if kind == SAMPLE]
    chosen = rng.choice(firsts, min(count, len(firsts)), replace=False).tolist() if firsts else []
    longer = list(order)
    for position in sorted(chosen, reverse=True):
        stimulus = order[position][1]
        earliest = min(position + max(len(order) // 4, 1), len(longer))
        longer.insert(int(rng.integers(earliest, len(longer) + 1)), (REPEAT, stimulus))
    return longer


class _Deck(Generic[Stimulus]):
    """Shuffled stimuli of alternating groups, shuffled again after all have been dealt."""

    def __init__(self, groups: Mapping[str, Sequence[Stimulus]], rng: np.random.Generator) -> None:
        self._groups = groups
        self._rng = rng
        self._remaining: list[Stimulus] = []

    def deal(self, count: int) -> list[Stimulus]:
        """Return the next `count` stimuli, all different."""
        dealt: list[Stimulus] = []
        while len(dealt) < count:
            if not self._remaining:
                shuffled = list(self._shuffled())
                dealt_before = set(dealt)  # moved to the end, so no session has a stimulus twice
                unused = [stimulus for stimulus in shuffled if stimulus not in dealt_before]
                self._remaining = unused + [stimulus for stimulus in shuffled if stimulus in dealt_before]
            dealt.append(self._remaining.pop(0))
        return dealt

    def _shuffled(self) -> Iterator[Stimulus]:
        """Yield all stimuli, interleaving the groups in proportion to their sizes."""
        keyed: list[tuple[float, Stimulus]] = []
        for group in self._groups.values():
            order = self._rng.permutation(len(group))
            shift = self._rng.random()
            keyed += [((rank + shift) / len(group), group[index]) for rank, index in enumerate(order)]
        yield from (stimulus for _, stimulus in sorted(keyed, key=lambda item: item[0]))


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
        samples = {sample.record.sample: sample for sample in source.all_samples(parts)}
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
