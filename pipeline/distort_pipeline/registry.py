"""Registries of named entries, a file each: distortions, statistics, networks, export formats."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Generic, TypeVar

from distort_pipeline.errors import PipelineError, did_you_mean

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """The named entries of a folder, whose files are imported at the first use of a name.

    A failed import stops the run: a silently missing entry would change a corpus unnoticed.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, Entry] = {}
        self._loaded = False

    def add(self, name: str) -> Callable[[Entry], Entry]:
        """Return a decorator that registers an entry as `name`."""

        def register(entry: Entry) -> Entry:
            if name in self._entries:
                raise ValueError(f"two {self.kind}s are called {name!r}")
            self._entries[name] = entry
            return entry

        return register

    def get(self, name: str) -> Entry:
        """Return the entry called `name`; PipelineError with the nearest known name if there is none."""
        self._load()
        if name not in self._entries:
            raise PipelineError(f"no {self.kind} is called {name!r}{did_you_mean(name, self._entries)}")
        return self._entries[name]

    def names(self) -> tuple[str, ...]:
        """Return every registered name, sorted."""
        self._load()
        return tuple(sorted(self._entries))

    def _load(self) -> None:
        if self._loaded:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__, f"{self._package}."):
            importlib.import_module(module.name)
        self._loaded = True
