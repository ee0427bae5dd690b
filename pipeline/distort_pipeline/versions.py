"""Which versions made a store: part of its header, because another codec or library may give other bytes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version


def package_versions(names: Sequence[str]) -> dict[str, str]:
    """Return the installed version of each package in `names` that is installed, by name."""
    found = {}
    for name in sorted(names):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
