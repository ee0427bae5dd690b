"""What was asked of a corpus, in the words of its page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

UNITS = {"psnr": " dB"}


def request_text(settings: Mapping[str, Any]) -> str:
    """Return what the settings of generate ask for beyond the models' own levels, a sentence each; '' for nothing.

    >>> asked_words({"severity": [0.2, 0.9]})
    'Each sample has a severity of its own, from 0.2 to 0.9.'
    >>> asked_words({"target": {"psnr": [30]}, "mix": []})
    'A PSNR of 30 dB was asked of every sample.'
    >>> asked_words({"levels": 5, "mix": ["jpeg+white_noise"]})
    'In jpeg+white_noise there is white_noise on what jpeg left. Each distortion comes at 5 levels.'
    """
    return " ".join(_sentences(settings))


def _sentences(settings: Mapping[str, Any]) -> Iterator[str]:
    for composite in settings.get("composite") or ():
        first, *others = composite.split("+")
        yield f"In {composite} there is {' and then '.join(others)} on what {first} left."
    severity, levels = settings.get("severity") or (), settings.get("levels")
    measure, quality = next(iter((settings.get("target") or {}).items()), ("", ()))
    ends = _ends(severity) or _ends(quality, UNITS.get(measure, ""))
    requested = "severity" if severity else measure.upper()
    if levels:
        several = f"{levels} level{'s' if levels > 1 else ''}"
        yield f"Each distortion comes at {several}{f', {requested} {ends}' if ends else ''}."
    elif len(set(severity)) == 1:
        yield f"All samples have the severity {ends}."
    elif severity:
        yield f"Each sample has a severity of its own, {ends}."
    elif len(set(quality)) == 1:
        yield f"{_article(requested)} of {ends} was asked of every sample."
    elif quality:
        yield f"{_article(requested)} of its own was asked of each sample, {ends}, as far as its tile can have it."


def _ends(values: Sequence[float], unit: str = "") -> str:
    """Return one number, or both ends of a range."""
    told = [f"{value:g}{unit}" for value in values]
    return told[0] if len(set(told)) == 1 else f"from {told[0]} to {told[-1]}" if told else ""


def _article(measure: str) -> str:
    return f"{'An' if measure.startswith('S') else 'A'} {measure}"
