"""The one kind of error that a user can cause and mend."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class PipelineError(Exception):
    """Says what went wrong, where, with which value, and what to do; shown without a traceback, exit code 2."""


class WorkersError(PipelineError):
    """What runs tasks cannot be reached, or is gone: it says nothing about what the tasks were to look at."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return '; did you mean X?' for the known word nearest to `word`, or a list of the known ones.

    >>> did_you_mean("gausian_blur", ["jpeg", "gaussian_blur"])
    '; did you mean gaussian_blur?'
    >>> did_you_mean("zzz", ["jpeg", "jp2k"])
    '; known are: jp2k, jpeg'
    """
    names = sorted(known)
    near = get_close_matches(word, names, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are: {', '.join(names) or 'none'}"
