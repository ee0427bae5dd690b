"""The plan of a subjective study: the images or pairs of images in each trial of each session.

All stimuli are shown about equally often, distortions alternate over the whole study, and the order within a session is
random. Repeated trials measure the reliability of the ratings; anchors are stimuli with a known rating.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from distort_pipeline.seeds import make_rng

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
