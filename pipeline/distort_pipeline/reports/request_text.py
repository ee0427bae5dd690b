"""The request for a corpus (severities, levels, quality targets, composites) in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

UNITS = {"psnr": " dB"}


def request_text(settings: Mapping[str, Any]) -> str:
    """Return the request in the settings of generate, a sentence each; '' without a request.

    >>> request_text({"severity": [0.2, 0.9]})
    'The severity of each sample is drawn from 0.2 to 0.9.'
    >>> request_text({"target": {"psnr": [30]}, "composite": []})
    'The requested PSNR of all samples is 30 dB.'
    >>> request_text({"levels": 5, "composite": ["jpeg+white_noise"]})
    'jpeg+white_noise is a composite: jpeg, then white_noise. Each distortion has 5 levels.'
    """
    return " ".join(_sentences(settings))


def _sentences(settings: Mapping[str, Any]) -> Iterator[str]:
    for composite in settings.get("composite") or ():
        yield f"{composite} is a composite: {', then '.join(composite.split('+'))}."
    severity, levels = settings.get("severity") or (), settings.get("levels")
    measure, quality = next(iter((settings.get("target") or {}).items()), ("", ()))
    ends = _ends(severity) or _ends(quality, UNITS.get(measure, ""))
    requested = "severity" if severity else measure.upper()
    if levels:
        count = f"{levels} level{'s' if levels > 1 else ''}"
        yield f"Each distortion has {count}{f', {requested} {ends}' if ends else ''}."
    elif len(set(severity)) == 1:
        yield f"The severity of all samples is {ends}."
    elif severity:
        yield f"The severity of each sample is drawn {ends}."
    elif len(set(quality)) == 1:
        yield f"The requested {requested} of all samples is {ends}."
    elif quality:
        yield f"The requested {requested} of each sample is drawn {ends}, within the range of its tile."


def _ends(values: Sequence[float], unit: str = "") -> str:
    """Return a number, or both ends of a range."""
    texts = [f"{value:g}{unit}" for value in values]
    return texts[0] if len(set(texts)) == 1 else f"from {texts[0]} to {texts[-1]}" if texts else ""
