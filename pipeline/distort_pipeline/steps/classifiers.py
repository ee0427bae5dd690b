"""All classifier two-sample tests on the tiles of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distort_pipeline.execution import track
from distort_pipeline.metrics.c2st import Accuracy, C2STReport, C2STResult, SeverityTSTR, TSTRResult
from distort_pipeline.metrics.classifier import ImageTiles, severity_regressor, tile_classifier
from distort_pipeline.metrics.tstr import FoldData, random_split, severity_tstr_of, tstr_of, two_sample_test
from distort_pipeline.records import Images, derive_seed, make_rng

MIN_IMAGES = 2  # one for training, another for testing


def run_c2st(
    images: Sequence[ImageTiles], learned: Mapping[str, str], *, steps: int, fold_count: int, seed: int
) -> C2STReport:
    """Return the results of classifiers trained for `steps` steps; `learned` maps each model to its true distortion.

    A generator whose distortion occurs in fewer than two photographs gets no test, and takes no part in TSTR.
    """
    tested = {
        model: column
        for model, column in learned.items()
        if sum(column in tiles.true for tiles in images) >= MIN_IMAGES
    }
    if not tested:
        return C2STReport({}, None, None)
    classifier = tile_classifier(2, steps=steps)

    def accuracy_of(kind: str, name: str, pairs: Sequence[tuple[Images, Images]]) -> Accuracy:
        rng = make_rng(derive_seed(seed, "sceptic", kind, name))
        return two_sample_test(pairs, classifier, fold_count=fold_count, rng=rng)

    controls: dict[str, tuple[Accuracy, bool, Accuracy]] = {}
    results = {}
    for model, column in track(tested.items(), total=len(tested), label="C2ST", unit="generators"):
        having_column = [tiles for tiles in images if column in tiles.true]
        if column not in controls:
            pairs, second_draw = _true_pairs(having_column, column, seed)
            positive_control = [(tiles.true[column], tiles.positive_control[column]) for tiles in having_column]
            controls[column] = (
                accuracy_of("negative_control", column, pairs),
                second_draw,
                accuracy_of("positive_control", column, positive_control),
            )
        generated = accuracy_of(
            "generated", model, [(tiles.true[column], tiles.generated[model]) for tiles in having_column]
        )
        results[model] = C2STResult(generated, *controls[column])
    models_of = _models_of(tested)
    return C2STReport(
        results,
        _tstr(images, models_of, steps, fold_count, seed),
        _severity_tstr(images, models_of, steps, fold_count, seed),
    )


def _true_pairs(images: Sequence[ImageTiles], column: str, seed: int) -> tuple[list[tuple[Images, Images]], bool]:
    """Return pairs of true tiles, and whether the second tiles are a second draw instead of a random split."""
    if all(column in tiles.true_again for tiles in images):
        return [(tiles.true[column], tiles.true_again[column]) for tiles in images], True
    rng = make_rng(derive_seed(seed, "sceptic", "halves", column))
    return [random_split(tiles.true[column], rng) for tiles in images], False


def _models_of(learned: Mapping[str, str]) -> dict[str, str]:
    """Return the first generator of each true distortion."""
    models_of = {column: model for model, column in reversed(list(learned.items()))}
    return {column: models_of[column] for column in dict.fromkeys(learned.values())}


def _tstr(
    images: Sequence[ImageTiles], models_of: Mapping[str, str], steps: int, fold_count: int, seed: int
) -> TSTRResult | None:
    """Return TSTR over pristine and each learned distortion; levels of multi-level generators are interleaved."""
    multi_level = {model for image in images for model in image.multi_level}
    complete = [
        image
        for image in images
        if models_of.keys() <= image.true.keys()
        and multi_level.intersection(models_of.values()) <= image.multi_level.keys()
    ]
    if len(complete) < MIN_IMAGES:
        return None

    def tiles(image: ImageTiles, column: str, model: str) -> tuple[Images, Images]:
        if model in multi_level:
            return image.multi_level[model].generated, image.multi_level[model].true
        return image.generated[model], image.true[column]

    seeds = (derive_seed(seed, "sceptic", "lesson folds"), derive_seed(seed, "sceptic", "lesson"))
    training_and_test = []
    for image in complete:
        generated, true = zip(*(tiles(image, *source) for source in models_of.items()), strict=True)
        training_and_test.append(([image.pristine, *generated], [image.pristine, *true]))
    return tstr_of(
        training_and_test,
        ["pristine", *models_of],
        tile_classifier(1 + len(models_of), steps=steps),
        fold_count=fold_count,
        seeds=seeds,
    )


def _severity_tstr(
    images: Sequence[ImageTiles], models_of: Mapping[str, str], steps: int, fold_count: int, seed: int
) -> SeverityTSTR | None:
    """Return TSTR over the levels of all multi-level generators; None without any, or with too few photographs."""
    multi_level = {model for image in images for model in image.multi_level}
    columns = {column: model for column, model in models_of.items() if model in multi_level}
    complete = [image for image in images if image.multi_level.keys() >= set(columns.values())]
    if not columns or len(complete) < MIN_IMAGES:
        return None
    fold_data = [
        FoldData(image.pristine, {column: image.multi_level[model] for column, model in columns.items()})
        for image in complete
    ]
    tstr_seed = derive_seed(seed, "sceptic", "severity lesson")
    return severity_tstr_of(fold_data, severity_regressor(steps=steps), fold_count=fold_count, seed=tstr_seed)
