"""Results of the classifier two-sample test and of TSTR: metrics, CSV rows and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from distort_pipeline.statistics.c2st import (
    GOAL,
    POSITIVE_CONTROL_SCALE,
    TOO_EASY,
    TSTR_GOAL,
    Accuracy,
    C2STReport,
    C2STResult,
    SeverityTSTR,
    TSTRResult,
)


def c2st_metrics(c2st: C2STReport | None, model: str) -> dict[str, Any]:
    """Return the C2ST metrics of one generator; empty without a test."""
    result = c2st.results.get(model) if c2st else None
    if result is None:
        return {}
    return {
        "c2st_accuracy": result.generated.share,
        "c2st_accuracy_low": result.generated.low,
        "c2st_accuracy_high": result.generated.high,
        "c2st_negative_control": result.negative_control.share,
        "c2st_positive_control": result.positive_control.share,
    }


def tstr_metrics(c2st: C2STReport | None) -> dict[str, Any] | None:
    """Return the accuracies of TSTR (train on generated, test on true) and TRTR; None without that test."""
    tstr_result = c2st.tstr_result if c2st else None
    if tstr_result is None:
        return None
    return {
        "tstr": tstr_result.tstr.share,
        "trtr": tstr_result.trtr.share,
        "ratio": tstr_result.ratio,
        "meaningful": int(tstr_result.meaningful),
    }


def severity_tstr_metrics(c2st: C2STReport | None) -> dict[str, Any] | None:
    """Return the SRCC of TSTR and TRTR severity regression by distortion; None without that test."""
    tstr_result = c2st.severity_tstr if c2st else None
    if tstr_result is None:
        return None
    correlations = {
        name: {"tstr": tstr.value, "trtr": tstr_result.trtr[name].value} for name, tstr in tstr_result.tstr.items()
    }
    return {**correlations, "ratio": tstr_result.ratio, "meaningful": int(tstr_result.meaningful)}


def c2st_csv(c2st: C2STReport) -> Iterator[tuple[str, list[Sequence[object]]]]:
    """Yield the name and the rows of each CSV file, column names first."""
    columns = ["model", "compared", "accuracy", "low", "high", "images", "tiles"]
    rows = [
        [model, compared, *vars(accuracy).values()]
        for model, result in c2st.results.items()
        for compared, accuracy in compared_in(result).items()
    ]
    yield "c2st.csv", [columns, *rows]
    yield "data/c2st.csv", [["compared", "accuracy"], *([f"{row[0]}: {row[1]}", row[2]] for row in rows)]
    if c2st.tstr_result:
        yield (
            "tstr.csv",
            [
                ["trained on", "true class", *c2st.tstr_result.kinds],
                *(
                    [source, kind, *counts]
                    for source, confusion in c2st.tstr_result.confusion.items()
                    for kind, counts in zip(c2st.tstr_result.kinds, confusion.tolist(), strict=True)
                ),
            ],
        )
    if c2st.severity_tstr:
        columns = ["true", "trained on", "srcc", "low", "high", "images", "tiles"]
        yield "severity_tstr.csv", [columns, *_severity_rows(c2st.severity_tstr)]


def _severity_rows(tstr_result: SeverityTSTR) -> list[Sequence[object]]:
    return [
        [name, source, *vars(correlation).values()]
        for source, correlations in (("generated", tstr_result.tstr), ("true", tstr_result.trtr))
        for name, correlation in correlations.items()
    ]


def compared_in(result: C2STResult) -> dict[str, Accuracy]:
    """Return the C2ST accuracies by label: generated tiles and both controls, each against true tiles."""
    negative_control = "another true draw" if result.second_draw else "other true tiles"
    return {
        "generated": result.generated,
        negative_control: result.negative_control,
        f"true, residual × {POSITIVE_CONTROL_SCALE:g}": result.positive_control,
    }


def c2st_text(result: C2STResult) -> str:
    """Return the outcome of a classifier two-sample test in words.

    >>> half = Accuracy(0.5, 0.4, 0.6, 4, 80)
    >>> c2st_text(C2STResult(half, half, True, half))
    'inconclusive: the accuracy is within the goal, but the positive control is not detected either'
    """
    if result.state == "bad":
        return f"the accuracy exceeds the goal of {GOAL:.0%}"
    if result.state == "good":
        return f"the accuracy is within the goal of {GOAL:.0%}, and the positive control is detected"
    return "inconclusive: the accuracy is within the goal, but the positive control is not detected either"


def severity_tstr_text(tstr_result: SeverityTSTR) -> str:
    """Return the outcome of TSTR severity regression in words."""
    if tstr_result.mean_trtr <= 0:
        return "Not meaningful: severity cannot be learned from true tiles either."
    return tstr_text(tstr_result)


def tstr_text(tstr_result: TSTRResult | SeverityTSTR) -> str:
    """Return the outcome of TSTR in words."""
    if not tstr_result.meaningful:
        return f"Not meaningful: TRTR is above {TOO_EASY:.0%}, so the task is too easy."
    reached = "reached" if tstr_result.ratio >= TSTR_GOAL else "not reached"
    return f"TSTR reaches {tstr_result.ratio:.1%} of TRTR; the goal of {TSTR_GOAL:.0%} is {reached}."
