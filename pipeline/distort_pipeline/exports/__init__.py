"""Export formats, each in its own module, registered by name. A format converts a corpus to the files of other tools.

`write_part` runs in a worker for each part, possibly again after a kill, and writes the same files of this part only.
`finish` runs once afterwards and writes the files of the whole export, from the records alone. Every export also has
the files of `croissant.py`: a table of samples, a card, Croissant, attributions, checksums.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from distort_pipeline.exports.source import Exported, ExportSource, Part, Score
from distort_pipeline.records import Registry

KIND = "export"
VERSION = 3

__all__ = ["EXPORTS", "KIND", "VERSION", "ExportFormat", "ExportSource", "Exported", "Part", "Score"]


class ExportFormat(ABC):
    """An export format, without state; `write_part` and `finish` return the written files, all below `out`."""

    table = "samples.csv"  # file name of the table of all samples
    scored = False  # whether a score is required: samples without a score are omitted
    files = ("", "")  # pattern and media type of the files with images, for Croissant
    rating_scale: tuple[float, float] | None = None  # the only scale of ratings by people; None: any
    about = ""  # layout of the files and how to open them, Markdown

    def card_head(self, splits: Sequence[str]) -> Mapping[str, object]:  # noqa: ARG002
        """Return further fields of the card's YAML head, for tools; none unless a tool reads them."""
        return {}

    @abstractmethod
    def locate(self, part: Part, sample: Exported) -> dict[str, str]:
        """Return the location of a sample: table column → path relative to the export."""

    def locate_true(self, sample: Exported) -> dict[str, str]:  # noqa: ARG002
        """Return the location of the true distortion of a sample, if the export has it: column → path."""
        return {}

    @abstractmethod
    def write_part(self, source: ExportSource, part: Part, out: Path) -> list[Path]:
        """Write the files of a part."""

    def finish(self, source: ExportSource, parts: Sequence[Part], out: Path) -> list[Path]:  # noqa: ARG002
        """Write the format's files of the whole export; none by default."""
        return []


EXPORTS: Registry[type[ExportFormat]] = Registry(
    "export format", "distort_pipeline.exports", group="distort_pipeline.exports"
)
