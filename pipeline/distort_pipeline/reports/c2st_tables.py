"""What classifiers could tell, in numbers for programs and in words for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from distort_pipeline.statistics.c2st import (
    GOAL,
    TOO_EASY,
    TSTR_GOAL,
    Accuracy,
    C2STReport,
    C2STResult,
    SeverityTSTR,
    TSTRResult,
)


def c2st_metrics(c2st: C2STReport | None, model: str) -> dict[str, Any]:
    """Return the numbers of one generator's trial; none where there was no trial."""
    trial = c2st.results.get(model) if c2st else None
    if trial is None:
        return {}
    return {
        "told_apart": trial.generated.share,
        "told_apart_low": trial.generated.low,
        "told_apart_high": trial.generated.high,
        "told_apart_control": trial.negative_control.share,
        "told_apart_weaker": trial.positive_control.share,
    }


def tstr_metrics(c2st: C2STReport | None) -> dict[str, Any] | None:
    """Return the numbers of training on generated and testing on true; None where that was not done."""
    tstr_result = c2st.tstr_result if c2st else None
    if tstr_result is None:
        return None
    return {
        "taught_by_generated": tstr_result.tstr.share,
        "taught_by_true": tstr_result.trtr.share,
        "ratio": tstr_result.ratio,
        "meaningful": int(tstr_result.meaningful),
    }


def severity_tstr_metrics(c2st: C2STReport | None) -> dict[str, Any] | None:
    """Return the same for the severity of tiles; None where that was not done."""
    tstr_result = c2st.severity_tstr if c2st else None
    if tstr_result is None:
        return None
    trained_on = {
        name: {"taught_by_generated": found.value, "taught_by_true": tstr_result.trtr[name].value}
        for name, found in tstr_result.tstr.items()
    }
    return {**trained_on, "ratio": tstr_result.ratio, "meaningful": int(tstr_result.meaningful)}


def c2st_csv(c2st: C2STReport) -> Iterator[tuple[str, list[Sequence[object]]]]:
    """Yield the name of each CSV file and its rows, the header first."""
    metadata = ["model", "compared", "accuracy", "low", "high", "photographs", "tiles"]
    rows = [
        [model, compared, *vars(found).values()]
        for model, trial in c2st.results.items()
        for compared, found in compared_in(trial).items()
    ]
    yield "told_apart.csv", [metadata, *rows]
    yield "plots/told_apart.csv", [["compared", "accuracy"], *([f"{row[0]}: {row[1]}", row[2]] for row in rows)]
    if c2st.tstr_result:
        yield (
            "lesson.csv",
            [
                ["taught by", "true kind", *c2st.tstr_result.kinds],
                *(
                    [source, kind, *counts]
                    for source, named in c2st.tstr_result.confusion.items()
                    for kind, counts in zip(c2st.tstr_result.kinds, named.tolist(), strict=True)
                ),
            ],
        )
    if c2st.severity_tstr:
        metadata = ["true", "taught by", "spearman", "low", "high", "photographs", "tiles"]
        yield "severity_lesson.csv", [metadata, *_severity_rows(c2st.severity_tstr)]


def _severity_rows(tstr_result: SeverityTSTR) -> list[Sequence[object]]:
    return [
        [name, source, *vars(found).values()]
        for source, by in (("generated", tstr_result.tstr), ("true", tstr_result.trtr))
        for name, found in by.items()
    ]


def compared_in(trial: C2STResult) -> dict[str, Accuracy]:
    """Return what a trial compared with true tiles → how often it was told from them."""
    negative_control = "another true draw" if trial.second_draw else "other true tiles"
    return {
        "generated": trial.generated,
        negative_control: trial.negative_control,
        "true, a fifth weaker": trial.positive_control,
    }


def c2st_text(trial: C2STResult) -> str:
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


def severity_tstr_text(tstr_result: SeverityTSTR) -> str:
    """Return the sentence that a lesson on severity comes to."""
    return tstr_text(tstr_result) if tstr_result.mean_trtr > 0 else "Not meaningful: true tiles do not teach it either."


def tstr_text(tstr_result: TSTRResult | SeverityTSTR) -> str:
    """Return the sentence that a lesson comes to."""
    if not tstr_result.meaningful:
        return (
            f"Not meaningful: true tiles teach more than {TOO_EASY:.0%} of it, the task is too easy to tell anything."
        )
    reached = "reached" if tstr_result.ratio >= TSTR_GOAL else "not reached"
    return f"Generated tiles teach {tstr_result.ratio:.1%} of what true ones teach; the goal of {TSTR_GOAL:.0%} is {reached}."
