"""Attributions: licence and source of each photograph, as a CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from distort_pipeline.errors import PipelineError
from distort_pipeline.records import ImageRecord
from distort_pipeline.stores.files import write_bytes

ATTRIBUTIONS = "attributions.csv"


@dataclass(frozen=True)
class Attribution:
    """Licence and source of one photograph."""

    image: str  # ImageRecord.id
    licence: str
    source: str  # origin, in the words of the list or folder that came with the photograph
    image_digest: str


COLUMNS = tuple(field.name for field in dataclasses.fields(Attribution))


def attributions_of(images: Iterable[ImageRecord]) -> list[Attribution]:
    """Return the attributions of `images`, sorted by id."""
    attributions = [Attribution(image.id, image.licence, image.source, image.image_digest) for image in images]
    return sorted(attributions, key=lambda attribution: attribution.image)


def write_attributions(path: Path, attributions: Iterable[Attribution]) -> None:
    """Write the CSV of `attributions`, whole or not at all."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(dataclasses.astuple(attribution) for attribution in attributions)
    write_bytes(path, text.getvalue().encode())


def read_attributions(path: Path) -> list[Attribution]:
    """Return the attributions at `path`; PipelineError if missing or damaged."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [Attribution(**row) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error, TypeError) as error:
        raise PipelineError(f"{path} is missing or damaged: {error}") from None
