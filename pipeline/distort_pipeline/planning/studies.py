"""The plan of a study with people: which image, or which two, is shown when, in which session.

Every stimulus is shown about as often as every other, distortions alternate over the whole study, and the order within
a session is random. Some trials come twice in their session, so that one sees how steady the answers are; some show
something whose answer is known.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from distort_pipeline.seeds import make_rng

Stimulus = TypeVar("Stimulus", bound=Hashable)

SAMPLE, REPEAT, ANCHOR = "sample", "repeat", "anchor"
SHARE = 10  # one trial in so many is a repeat, one an anchor


@dataclass(frozen=True)
class Trial(Generic[Stimulus]):
    """One thing shown in one session."""

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
    """Return the trials of all sessions, `trials` in each, or fewer where there are not so many stimuli.

    `groups` are the stimuli by what shall be balanced, such as distortion and level. No stimulus is in a session twice
    but as a repeat, and a repeat follows at least a quarter of the session after its first showing.

    >>> shown = plan_sessions({"jpeg": [1, 2, 3], "noise": [4, 5, 6]}, [0], sessions=2, trials=10, seed=0)
    >>> sorted(trial.stimulus for trial in shown if trial.session == 0)
    [0, 1, 2, 3, 3, 4, 5, 6]
    """
    rng = make_rng(seed)
    extra = max(trials // SHARE, 1)
    own = min(trials - 2 * extra, sum(map(len, groups.values())))
    deck = _Deck(groups, rng)
    anchor_deck = _Deck({ANCHOR: anchors}, rng)
    found: list[Trial[Stimulus]] = []
    for session in range(sessions):
        shown = deck.deal(own)
        rng.shuffle(shown)
        order = [(SAMPLE, stimulus) for stimulus in shown]
        for stimulus in anchor_deck.deal(min(extra, len(anchors))):
            order.insert(int(rng.integers(len(order) + 1)), (ANCHOR, stimulus))
        order = _with_repeats(order, min(extra, own), rng)
        found += [Trial(session, position, kind, stimulus) for position, (kind, stimulus) in enumerate(order)]
    return found


def _with_repeats(
    order: list[tuple[str, Stimulus]], count: int, rng: np.random.Generator
) -> list[tuple[str, Stimulus]]:
    """Return `order` with `count` samples of its first half again, each a quarter of the session later or more."""
    firsts = [place for place, (kind, _) in enumerate(order[: max(len(order) // 2, 1)]) if kind == SAMPLE]
    chosen = rng.choice(firsts, min(count, len(firsts)), replace=False).tolist() if firsts else []
    longer = list(order)
    for place in sorted(chosen, reverse=True):
        stimulus = order[place][1]
        earliest = min(place + max(len(order) // 4, 1), len(longer))
        longer.insert(int(rng.integers(earliest, len(longer) + 1)), (REPEAT, stimulus))
    return longer


class _Deck(Generic[Stimulus]):
    """Stimuli shuffled like cards, group after group in turn, and shuffled anew when all have been dealt."""

    def __init__(self, groups: Mapping[str, Sequence[Stimulus]], rng: np.random.Generator) -> None:
        self._groups = groups
        self._rng = rng
        self._left: list[Stimulus] = []

    def deal(self, count: int) -> list[Stimulus]:
        """Return the next `count` stimuli, all different."""
        dealt: list[Stimulus] = []
        while len(dealt) < count:
            if not self._left:
                fresh = list(self._shuffled())
                taken = set(dealt)  # these come last, so that no session has them twice
                self._left = [one for one in fresh if one not in taken] + [one for one in fresh if one in taken]
            dealt.append(self._left.pop(0))
        return dealt

    def _shuffled(self) -> Iterator[Stimulus]:
        """Yield all stimuli, the groups in turn for as long as they last, in proportion to their sizes."""
        places: list[tuple[float, Stimulus]] = []
        for group in self._groups.values():
            order = self._rng.permutation(len(group))
            shift = self._rng.random()
            places += [((turn + shift) / len(group), group[place]) for turn, place in enumerate(order)]
        yield from (stimulus for _, stimulus in sorted(places, key=lambda one: one[0]))
