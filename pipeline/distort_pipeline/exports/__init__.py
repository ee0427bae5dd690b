"""Export formats: one file each, found by name. A format turns a corpus into files that other tools open.

A format is a class without state. Its `write_part` runs in a worker, once for each part and perhaps again after a kill:
it writes only files that belong to that part, the same ones each time. What can be said only of the whole is written
by `finish`, afterwards and in one place; it can name every file again from the records alone.

Every export also gets what `documents.py` writes: a table of its samples, a card, Croissant, attributions, checksums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from distort_pipeline.exports.source import Exported, ExportSource, Score
from distort_pipeline.planning.exports import Part
from distort_pipeline.registry import Registry

KIND = "export"
VERSION = 2

__all__ = ["EXPORTS", "KIND", "VERSION", "ExportFormat", "ExportSource", "Exported", "Part", "Score"]


class ExportFormat(Protocol):
    """What every format does; both `write_part` and `finish` give the files they wrote, all below `out`."""

    table: str  # the file that lists all samples
    scored: bool  # whether it is no use without a score: samples that have none are left out
    files: tuple[str, str]  # pattern and media type of the files that hold images, for Croissant
    about: str  # how the files lie and how to open them, Markdown

    def card_head(self, splits: Sequence[str]) -> Mapping[str, object]:
        """Return what the head of the card says besides, for tools that read it."""

    def places(self, part: Part, sample: Exported) -> dict[str, str]:
        """Return where a sample lies: columns of the table, with paths from the folder of the export."""

    def write_part(self, source: ExportSource, part: Part, out: Path) -> Sequence[Path]:
        """Write the files of one part."""

    def finish(self, source: ExportSource, parts: Sequence[Part], out: Path) -> Sequence[Path]:
        """Write what belongs to all parts and no other format has."""


EXPORTS: Registry[type[ExportFormat]] = Registry("export format", "distort_pipeline.exports")
