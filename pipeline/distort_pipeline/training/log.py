"""Figures over the steps: by DVCLive inside a DVC project, in the same files and columns elsewhere."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class TrainingLog(Protocol):
    """Logs the figures of a step."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write `figures`, name → value, after `step` steps."""


def open_log(folder: Path, from_step: int) -> TrainingLog:
    """Return a log in `folder`, without the lines of an interrupted run after `from_step`."""
    metrics = folder / "plots" / "metrics"
    for path in metrics.rglob("*.tsv"):
        _cut(path, from_step)
    if not any((parent / ".dvc").is_dir() for parent in (Path.cwd(), *Path.cwd().parents)):
        return _FileLog(metrics)  # DVCLive would turn the user's folder into a DVC project
    try:
        from dvclive import Live
    except ImportError:
        return _FileLog(metrics)
    return _LiveLog(Live(str(folder), resume=True, save_dvc_exp=False, dvcyaml=None, monitor_system=False))


class _LiveLog:
    def __init__(self, live: Any) -> None:
        self._live = live

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._live.step = step
        for name, value in figures.items():
            self._live.log_metric(name, value, timestamp=False)
        self._live.make_summary()


class _FileLog:
    def __init__(self, metrics: Path) -> None:
        self._metrics = metrics

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            path = self._metrics / f"{name}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not path.exists()
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, delimiter="\t", lineterminator="\n")
                if is_new:
                    writer.writerow(["step", path.stem])
                writer.writerow([step, value])


def _cut(path: Path, from_step: int) -> None:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if not rows:
        return
    kept = [row for row in rows if (row.get("step") or "").isdigit() and int(row["step"]) <= from_step]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
