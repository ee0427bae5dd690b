"""Errors caused by users."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class PipelineError(Exception):
    """An error with its place, value and remedy; shown without a traceback, exit code 2."""


class WorkersError(PipelineError):
    """The workers cannot be reached, or are gone: no finding about the data of the tasks."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return '; did you mean X?' with the known name nearest to `name`, or a list of the known names.

    >>> did_you_mean("gausian_blur", ["jpeg", "gaussian_blur"])
    '; did you mean gaussian_blur?'
    >>> did_you_mean("zzz", ["jpeg", "jp2k"])
    '; known are: jp2k, jpeg'
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are: {', '.join(names) or 'none'}"
