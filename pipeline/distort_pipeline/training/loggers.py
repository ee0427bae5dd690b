"""Loggers of losses and validations: TSV, which the reports read; DVCLive, which writes the same files; TensorBoard.

Another package adds one by an entry point of the group `distort_pipeline.loggers`: a function of the folder, and of the
step that a resumed training goes on from, that returns a TrainingLog.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Registry

METRICS = "plots/metrics"  # folder of the TSV files, as DVCLive names it


class TrainingLog(Protocol):
    """Logs the figures of a step."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write `figures`, name → value, after `step` steps."""


OpenLog = Callable[[Path, int], TrainingLog]
LOGGERS: Registry[OpenLog] = Registry("logger", __name__, group="distort_pipeline.loggers")


def open_log(folder: Path, from_step: int, names: Sequence[str] = ("tsv",)) -> TrainingLog:
    """Return a log in `folder` of the loggers `names`, without the lines of an interrupted run after `from_step`.

    TSV files are written by "tsv" if no other one of `names` does, as the report of an evaluation draws them.
    """
    for path in (folder / METRICS).rglob("*.tsv"):
        _cut(path, from_step)
    written = () if {"tsv", "dvclive"} & set(names) else ("tsv",)
    return _Logs([LOGGERS.get(name)(folder, from_step) for name in (*written, *dict.fromkeys(names))])


class _Logs:
    def __init__(self, logs: Sequence[TrainingLog]) -> None:
        self._logs = logs

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for log in self._logs:
            log.log(step, figures)


@LOGGERS.add("tsv")
class TsvLog:
    """A file of steps and values for each figure: plots/metrics/NAME.tsv."""

    def __init__(self, folder: Path, _from_step: int) -> None:
        self._metrics = folder / METRICS

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Add a line to each figure's file."""
        for name, value in figures.items():
            path = self._metrics / f"{name}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not path.exists()
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, delimiter="\t", lineterminator="\n")
                if is_new:
                    writer.writerow(["step", path.stem])
                writer.writerow([step, value])


@LOGGERS.add("dvclive")
class DvcliveLog:
    """DVCLive's log, for `dvc plots` and editors; in a folder without DVC it makes a DVC project."""

    def __init__(self, folder: Path, _from_step: int) -> None:
        try:
            from dvclive import Live
        except ImportError:
            raise PipelineError("--logger dvclive needs DVCLive: pip install dvclive") from None
        self._live: Any = Live(str(folder), resume=True, save_dvc_exp=False, dvcyaml=None, monitor_system=False)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Add a line to each figure's file, and renew the summary."""
        self._live.step = step
        for name, value in figures.items():
            self._live.log_metric(name, value, timestamp=False)
        self._live.make_summary()


@LOGGERS.add("tensorboard")
class TensorboardLog:
    """Events for TensorBoard in the folder tensorboard, written by TensorFlow itself."""

    def __init__(self, folder: Path, from_step: int) -> None:
        import tensorflow as tf

        if from_step < 0:
            shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        self._tf, self._writer = tf, tf.summary.create_file_writer(str(folder / "tensorboard"))
        self._metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=1
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write a scalar of each figure."""
        with self._writer.as_default(step=step):
            for name, value in figures.items():
                self._tf.summary.write(name, self._tf.constant(value, "float32"), metadata=self._metadata)
        self._writer.flush()


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
