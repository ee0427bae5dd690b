"""A logger of one JSON object a step."""

import json
from collections.abc import Mapping
from pathlib import Path


class JsonLines:
    """Writes figures.jsonl."""

    def __init__(self, folder: Path, _from_step: int) -> None:
        self._path = folder / "figures.jsonl"

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Add a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")
