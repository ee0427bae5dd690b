"""What classifiers could tell, in numbers for programs and in words for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from distort_pipeline.statistics.told import (
    GOAL,
    TAUGHT_GOAL,
    TOO_EASY,
    Accuracy,
    Doubts,
    Lesson,
    SeverityLesson,
    Trial,
)


def trial_metrics(doubts: Doubts | None, model: str) -> dict[str, Any]:
    """Return the numbers of one generator's trial; none where there was no trial."""
    trial = doubts.trials.get(model) if doubts else None
    if trial is None:
        return {}
    return {
        "told_apart": trial.generated.share,
        "told_apart_low": trial.generated.low,
        "told_apart_high": trial.generated.high,
        "told_apart_control": trial.control.share,
        "told_apart_weaker": trial.weaker.share,
    }


def lesson_metrics(doubts: Doubts | None) -> dict[str, Any] | None:
    """Return the numbers of training on generated and testing on true; None where that was not done."""
    lesson = doubts.lesson if doubts else None
    if lesson is None:
        return None
    return {
        "taught_by_generated": lesson.by_generated.share,
        "taught_by_true": lesson.by_true.share,
        "ratio": lesson.ratio,
        "meaningful": int(lesson.meaningful),
    }


def severity_lesson_metrics(doubts: Doubts | None) -> dict[str, Any] | None:
    """Return the same for the severity of tiles; None where that was not done."""
    lesson = doubts.severity_lesson if doubts else None
    if lesson is None:
        return None
    taught = {
        name: {"taught_by_generated": found.value, "taught_by_true": lesson.by_true[name].value}
        for name, found in lesson.by_generated.items()
    }
    return {**taught, "ratio": lesson.ratio, "meaningful": int(lesson.meaningful)}


def told_csv(doubts: Doubts) -> Iterator[tuple[str, list[Sequence[object]]]]:
    """Yield the name of each CSV file and its rows, the header first."""
    header = ["model", "compared", "accuracy", "low", "high", "photographs", "tiles"]
    rows = [
        [model, compared, *vars(found).values()]
        for model, trial in doubts.trials.items()
        for compared, found in compared_in(trial).items()
    ]
    yield "told_apart.csv", [header, *rows]
    yield "plots/told_apart.csv", [["compared", "accuracy"], *([f"{row[0]}: {row[1]}", row[2]] for row in rows)]
    if doubts.lesson:
        yield (
            "lesson.csv",
            [
                ["taught by", "true kind", *doubts.lesson.kinds],
                *(
                    [teacher, kind, *counts]
                    for teacher, named in doubts.lesson.named.items()
                    for kind, counts in zip(doubts.lesson.kinds, named.tolist(), strict=True)
                ),
            ],
        )
    if doubts.severity_lesson:
        header = ["true", "taught by", "spearman", "low", "high", "photographs", "tiles"]
        yield "severity_lesson.csv", [header, *_severity_rows(doubts.severity_lesson)]


def _severity_rows(lesson: SeverityLesson) -> list[Sequence[object]]:
    return [
        [name, teacher, *vars(found).values()]
        for teacher, by in (("generated", lesson.by_generated), ("true", lesson.by_true))
        for name, found in by.items()
    ]


def compared_in(trial: Trial) -> dict[str, Accuracy]:
    """Return what a trial compared with true tiles → how often it was told from them."""
    control = "another true draw" if trial.second_draw else "other true tiles"
    return {"generated": trial.generated, control: trial.control, "true, a fifth weaker": trial.weaker}


def trial_words(trial: Trial) -> str:
    """Return the sentence that a trial comes to.

    >>> half, most = Accuracy(0.5, 0.4, 0.6, 4, 80), Accuracy(0.9, 0.8, 1.0, 4, 80)
    >>> trial_words(Trial(half, half, True, half))
    'not told apart, but by a classifier that does not notice a fifth too weak either: no evidence'
    """
    if trial.state == "bad":
        return f"told apart more often than in {GOAL:.0%} of cases"
    if trial.state == "good":
        return f"told apart in at most {GOAL:.0%} of cases, by a classifier that notices a fifth too weak"
    return "not told apart, but by a classifier that does not notice a fifth too weak either: no evidence"


def severity_lesson_words(lesson: SeverityLesson) -> str:
    """Return the sentence that a lesson on severity comes to."""
    return lesson_words(lesson) if lesson.mean_by_true > 0 else "Not meaningful: true tiles do not teach it either."


def lesson_words(lesson: Lesson | SeverityLesson) -> str:
    """Return the sentence that a lesson comes to."""
    if not lesson.meaningful:
        return (
            f"Not meaningful: true tiles teach more than {TOO_EASY:.0%} of it, the task is too easy to tell anything."
        )
    reached = "reached" if lesson.ratio >= TAUGHT_GOAL else "not reached"
    return (
        f"Generated tiles teach {lesson.ratio:.1%} of what true ones teach; the goal of {TAUGHT_GOAL:.0%} is {reached}."
    )
