"""All tests of a sceptic on the tiles of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distort_pipeline.c2st.classifier import SeverityRegressor, TileClassifier
from distort_pipeline.c2st.severity_tstr import FoldData, severity_tstr_of
from distort_pipeline.c2st.tiles import PhotographTiles
from distort_pipeline.c2st.tstr import tstr_of
from distort_pipeline.c2st.two_samples import random_halves, two_sample_test
from distort_pipeline.pixels import Images
from distort_pipeline.progress import track
from distort_pipeline.seeds import derive_seed, make_rng
from distort_pipeline.statistics.c2st import Accuracy, C2STReport, C2STResult, SeverityTSTR, TSTRResult

FEWEST_PHOTOGRAPHS = 2  # one to be fitted on, another to be judged


def run_c2st(
    photographs: Sequence[PhotographTiles], learned: Mapping[str, str], *, steps: int, fold_count: int, seed: int
) -> C2STReport:
    """Return what classifiers of `steps` steps find; `learned` has the true distortion that each model learned.

    A generator whose distortion fewer than two photographs have gets no trial, and takes no part in the lesson.
    """
    tested = {
        model: column
        for model, column in learned.items()
        if sum(column in own.true for own in photographs) >= FEWEST_PHOTOGRAPHS
    }
    if not tested:
        return C2STReport({}, None, None)
    classifier = TileClassifier(2, steps=steps)

    def accuracy_of(kind: str, name: str, pairs: Sequence[tuple[Images, Images]]) -> Accuracy:
        rng = make_rng(derive_seed(seed, "sceptic", kind, name))
        return two_sample_test(pairs, classifier, fold_count=fold_count, rng=rng)

    controls: dict[str, tuple[Accuracy, bool, Accuracy]] = {}
    results = {}
    for model, column in track(tested.items(), total=len(tested), label="tell apart", unit="generators"):
        having = [own for own in photographs if column in own.true]
        if column not in controls:
            pairs, second_draw = _true_pairs(having, column, seed)
            positive_control = [(own.true[column], own.positive_control[column]) for own in having]
            controls[column] = (
                accuracy_of("negative_control", column, pairs),
                second_draw,
                accuracy_of("positive_control", column, positive_control),
            )
        generated = accuracy_of("generated", model, [(own.true[column], own.generated[model]) for own in having])
        results[model] = C2STResult(generated, *controls[column])
    models_of = _models_of(tested)
    return C2STReport(
        results,
        _tstr(photographs, models_of, steps, fold_count, seed),
        _severity_tstr(photographs, models_of, steps, fold_count, seed),
    )


def _true_pairs(having: Sequence[PhotographTiles], column: str, seed: int) -> tuple[list[tuple[Images, Images]], bool]:
    """Return true tiles against true ones, and whether those are of a second draw; else they are random halves."""
    if all(column in own.true_again for own in having):
        return [(own.true[column], own.true_again[column]) for own in having], True
    rng = make_rng(derive_seed(seed, "sceptic", "halves", column))
    return [random_halves(own.true[column], rng) for own in having], False


def _models_of(learned: Mapping[str, str]) -> dict[str, str]:
    """Return the first generator that learned each true distortion."""
    models_of = {column: model for model, column in reversed(list(learned.items()))}
    return {column: models_of[column] for column in dict.fromkeys(learned.values())}


def _tstr(
    photographs: Sequence[PhotographTiles], models_of: Mapping[str, str], steps: int, fold_count: int, seed: int
) -> TSTRResult | None:
    """Return the lesson over pristine and each learned distortion; of multi-level generators at all levels in turn."""
    multi_level = {model for own in photographs for model in own.multi_level}
    having = [
        own
        for own in photographs
        if models_of.keys() <= own.true.keys()
        and multi_level.intersection(models_of.values()) <= own.multi_level.keys()
    ]
    if len(having) < FEWEST_PHOTOGRAPHS:
        return None

    def tiles(own: PhotographTiles, column: str, model: str) -> tuple[Images, Images]:
        if model in multi_level:
            return own.multi_level[model].generated, own.multi_level[model].true
        return own.generated[model], own.true[column]

    seeds = (derive_seed(seed, "sceptic", "lesson folds"), derive_seed(seed, "sceptic", "lesson"))
    shown = []
    for own in having:
        generated, true = zip(*(tiles(own, *source) for source in models_of.items()), strict=True)
        shown.append(([own.pristine, *generated], [own.pristine, *true]))
    return tstr_of(
        shown,
        ["pristine", *models_of],
        TileClassifier(1 + len(models_of), steps=steps),
        fold_count=fold_count,
        seeds=seeds,
    )


def _severity_tstr(
    photographs: Sequence[PhotographTiles], models_of: Mapping[str, str], steps: int, fold_count: int, seed: int
) -> SeverityTSTR | None:
    """Return the lesson over the levels of all multi-level generators; None where there is none, or too few photographs."""
    multi_level = {model for own in photographs for model in own.multi_level}
    columns = {column: model for column, model in models_of.items() if model in multi_level}
    having = [own for own in photographs if own.multi_level.keys() >= set(columns.values())]
    if not columns or len(having) < FEWEST_PHOTOGRAPHS:
        return None
    shown = [
        FoldData(own.pristine, {column: own.multi_level[model] for column, model in columns.items()}) for own in having
    ]
    own_seed = derive_seed(seed, "sceptic", "severity lesson")
    return severity_tstr_of(shown, SeverityRegressor(steps=steps), fold_count=fold_count, seed=own_seed)
