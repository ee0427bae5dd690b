"""All tests of a sceptic on the tiles of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distort_pipeline.progress import track
from distort_pipeline.ranges import Images
from distort_pipeline.sceptic.classifier import SeverityRegressor, TileClassifier
from distort_pipeline.sceptic.lesson import teach
from distort_pipeline.sceptic.severity_lesson import Shown, teach_severity
from distort_pipeline.sceptic.tiles import PhotographTiles
from distort_pipeline.sceptic.two_samples import random_halves, tell_apart
from distort_pipeline.seeds import derive_seed, generator
from distort_pipeline.statistics.told import Accuracy, Doubts, Lesson, SeverityLesson, Trial

FEWEST_PHOTOGRAPHS = 2  # one to be fitted on, another to be judged


def judge(
    photographs: Sequence[PhotographTiles], learned: Mapping[str, str], *, steps: int, fold_count: int, seed: int
) -> Doubts:
    """Return what classifiers of `steps` steps find; `learned` has the true distortion that each model learned.

    A generator whose distortion fewer than two photographs have gets no trial, and takes no part in the lesson.
    """
    tested = {
        model: column
        for model, column in learned.items()
        if sum(column in own.true for own in photographs) >= FEWEST_PHOTOGRAPHS
    }
    if not tested:
        return Doubts({}, None, None)
    classifier = TileClassifier(2, steps=steps)

    def told(kind: str, name: str, pairs: Sequence[tuple[Images, Images]]) -> Accuracy:
        rng = generator(derive_seed(seed, "sceptic", kind, name))
        return tell_apart(pairs, classifier, fold_count=fold_count, rng=rng)

    controls: dict[str, tuple[Accuracy, bool, Accuracy]] = {}
    trials = {}
    for model, column in track(tested.items(), total=len(tested), label="tell apart", unit="generators"):
        having = [own for own in photographs if column in own.true]
        if column not in controls:
            pairs, second_draw = _true_pairs(having, column, seed)
            weaker = [(own.true[column], own.weaker[column]) for own in having]
            controls[column] = told("control", column, pairs), second_draw, told("weaker", column, weaker)
        generated = told("generated", model, [(own.true[column], own.generated[model]) for own in having])
        trials[model] = Trial(generated, *controls[column])
    teachers = _teachers(tested)
    return Doubts(
        trials,
        _lesson(photographs, teachers, steps, fold_count, seed),
        _severity_lesson(photographs, teachers, steps, fold_count, seed),
    )


def _true_pairs(having: Sequence[PhotographTiles], column: str, seed: int) -> tuple[list[tuple[Images, Images]], bool]:
    """Return true tiles against true ones, and whether those are of a second draw; else they are random halves."""
    if all(column in own.true_again for own in having):
        return [(own.true[column], own.true_again[column]) for own in having], True
    rng = generator(derive_seed(seed, "sceptic", "halves", column))
    return [random_halves(own.true[column], rng) for own in having], False


def _teachers(learned: Mapping[str, str]) -> dict[str, str]:
    """Return the first generator that learned each true distortion."""
    teachers = {column: model for model, column in reversed(list(learned.items()))}
    return {column: teachers[column] for column in dict.fromkeys(learned.values())}


def _lesson(
    photographs: Sequence[PhotographTiles], teachers: Mapping[str, str], steps: int, fold_count: int, seed: int
) -> Lesson | None:
    """Return the lesson over pristine and each learned distortion; of graded generators at all levels in turn."""
    graded = {model for own in photographs for model in own.graded}
    having = [
        own
        for own in photographs
        if teachers.keys() <= own.true.keys() and graded.intersection(teachers.values()) <= own.graded.keys()
    ]
    if len(having) < FEWEST_PHOTOGRAPHS:
        return None

    def tiles(own: PhotographTiles, column: str, model: str) -> tuple[Images, Images]:
        if model in graded:
            return own.graded[model].generated, own.graded[model].true
        return own.generated[model], own.true[column]

    seeds = (derive_seed(seed, "sceptic", "lesson folds"), derive_seed(seed, "sceptic", "lesson"))
    shown = []
    for own in having:
        generated, true = zip(*(tiles(own, *teacher) for teacher in teachers.items()), strict=True)
        shown.append(([own.pristine, *generated], [own.pristine, *true]))
    return teach(
        shown,
        ["pristine", *teachers],
        TileClassifier(1 + len(teachers), steps=steps),
        fold_count=fold_count,
        seeds=seeds,
    )


def _severity_lesson(
    photographs: Sequence[PhotographTiles], teachers: Mapping[str, str], steps: int, fold_count: int, seed: int
) -> SeverityLesson | None:
    """Return the lesson over the levels of all graded generators; None where there is none, or too few photographs."""
    graded = {model for own in photographs for model in own.graded}
    columns = {column: model for column, model in teachers.items() if model in graded}
    having = [own for own in photographs if own.graded.keys() >= set(columns.values())]
    if not columns or len(having) < FEWEST_PHOTOGRAPHS:
        return None
    shown = [Shown(own.pristine, {column: own.graded[model] for column, model in columns.items()}) for own in having]
    own_seed = derive_seed(seed, "sceptic", "severity lesson")
    return teach_severity(shown, SeverityRegressor(steps=steps), fold_count=fold_count, seed=own_seed)
