"""gallery: contact sheets of a corpus as PNG files, pixel for pixel on white, for a paper's figure or a slide."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.pixels import Image
from distort_pipeline.records import Report
from distort_pipeline.reports.examples import COLUMNS, Example, batch_examples, image_examples
from distort_pipeline.reports.side_by_side import png_bytes, side_by_side
from distort_pipeline.stores.corpora import CorpusStore, open_corpus
from distort_pipeline.stores.files import write_bytes

WHITE, BLACK = 255, 0
TRUE_COLUMNS = {"true", "true residual"}
OVERVIEW = "overview"  # the sheet with one row for each distortion
FIELDS = ("file", "row", "sample", "distortion", "image", "y", "x", "level", "severity", "seed", "psnr", "ssim")


@dataclass(frozen=True)
class Sheet:
    """One PNG file in the making: its name, and a label and an example for each row."""

    name: str
    rows: tuple[tuple[str, Example], ...]


def gallery(
    folder: Path,
    out: Path,
    *,
    distortions: Sequence[str] = (),
    rows: int = 4,
    columns: Sequence[str] = (),
    crop_px: int | None = None,
    image: str | None = None,
    labels: bool = True,
) -> Report:
    """Write a sheet for each distortion of the corpus in `folder`, and one of all, into the new folder `out`.

    Samples are spread over the corpus, or of one `image`; `columns` are those of COLUMNS, none named: all there are.
    `crop_px` cuts their middle out. gallery.csv says which sample stands where.
    """
    corpus = open_corpus(folder)
    _check(corpus, out, distortions, columns, rows, crop_px)
    fill = bool(columns) and not TRUE_COLUMNS & set(columns)
    sheets = _sheets(corpus, distortions or corpus.distortions, rows, image, fill=fill)
    for sheet in sheets:
        cells = [_cells(example, columns, crop_px) for _, example in sheet.rows]
        shared = [name for name in columns or COLUMNS if all(name in row for row in cells)]
        if not shared:
            raise PipelineError(f"{sheet.name}: no true images of these samples are kept; name other --columns")
        drawn = side_by_side(
            [[row[name] for name in shared] for row in cells],
            shared if labels else [""] * len(shared),
            row_labels=[label for label, _ in sheet.rows] if labels else None,
            ground_grey=WHITE,
            text_grey=BLACK,
        )
        write_bytes(out / f"{sheet.name}.png", png_bytes(drawn))
    write_bytes(out / "gallery.csv", _listing(sheets).encode())
    own = [sheet for sheet in sheets if sheet.name != OVERVIEW]
    samples = sum(len(sheet.rows) for sheet in own)
    fewer = [sheet.name for sheet in own if len(sheet.rows) < rows]
    lacking = f"fewer than {rows} true images are kept of {', '.join(fewer)}: more samples without such --columns"
    return Report(
        "gallery",
        {"sheets": len(sheets), "samples": samples},
        (
            f"{len(sheets)} sheets of {samples} samples: {out}",
            f"which sample stands where: {out / 'gallery.csv'}",
            *([lacking] if fewer and image is None and not fill else []),
        ),
    )


def _check(
    corpus: CorpusStore,
    out: Path,
    distortions: Sequence[str],
    columns: Sequence[str],
    rows: int,
    crop_px: int | None,
) -> None:
    for names, known, what in ((distortions, corpus.distortions, "distortion"), (columns, COLUMNS, "column")):
        for name in names:
            if name not in known:
                hint = did_you_mean(name, known) or f"; there are {', '.join(known)}"
                raise PipelineError(f"{corpus.folder} has no {what} {name!r}{hint}")
    if rows < 1 or (crop_px is not None and crop_px < 1):
        raise PipelineError(f"--rows and --crop-px must be positive, got {rows} and {crop_px}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PipelineError(f"{out} already exists; name another place with --out, or delete it first")


def _sheets(
    corpus: CorpusStore, distortions: Sequence[str], rows: int, image: str | None, *, fill: bool
) -> list[Sheet]:
    """Return a sheet for each distortion and, of more than one, the overview with the first row of each."""
    sheets = []
    for name in distortions:
        found = _spread(corpus, name, rows, fill) if image is None else image_examples(corpus, name, image, rows)
        if found:
            multi_level = len({one.record.level for one in found}) > 1
            labels = [f"level {one.record.level}, " * multi_level + f"sample {one.record.sample}" for one in found]
            sheets.append(Sheet(name, tuple(zip(labels, found, strict=True))))
    if not sheets:
        raise PipelineError(f"{corpus.folder} has no sample of the image {image!r}; its page lists all images")
    if len(sheets) > 1:
        sheets.insert(0, Sheet(OVERVIEW, tuple((sheet.name, sheet.rows[0][1]) for sheet in sheets)))
    return sheets


def _spread(corpus: CorpusStore, distortion: str, rows: int, fill: bool) -> list[Example]:
    """Return `rows` examples of batches spread over the corpus, or as many as there are; see `batch_examples`."""
    names = corpus.batch_names([distortion])
    turns = min(rows, len(names))
    chosen = [names[turn * len(names) // turns] for turn in range(turns)]
    each = -(-rows // turns)
    return [example for name in chosen for example in batch_examples(corpus, name, each, fill=fill)][:rows]


def _cells(example: Example, columns: Sequence[str], crop_px: int | None) -> Mapping[str, Image]:
    """Return the example's images by column, their middles of `crop_px` or all of them."""
    cells = {name: cell for name, cell in example.cells().items() if not columns or name in columns}
    if crop_px is None:
        return cells
    y, x = (max(side - crop_px, 0) // 2 for side in example.pristine.shape[:2])
    return {name: cell[y : y + crop_px, x : x + crop_px] for name, cell in cells.items()}


def _listing(sheets: Sequence[Sheet]) -> str:
    """Return the CSV text that says which sample stands in which row."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(FIELDS)
    for sheet in sheets:
        for number, (_, example) in enumerate(sheet.rows, start=1):
            values = (getattr(example.record, name) for name in FIELDS[2:])
            writer.writerow([f"{sheet.name}.png", number, *values])
    return buffer.getvalue()
