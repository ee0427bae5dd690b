"""gallery: contact sheets of a corpus as PNG files, at full resolution on white, for figures and slides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from distort_pipeline.commands.options import PATH, STORE_PATH, examples, names_in, show
from distort_pipeline.data.builds import require_new_folder
from distort_pipeline.data.corpora import CorpusStore, open_corpus
from distort_pipeline.data.files import write_bytes, write_csv
from distort_pipeline.data.images import marked_png
from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.records import Image, Report, SampleRecord
from distort_pipeline.reports.examples import COLUMNS, Example, batch_examples, image_examples
from distort_pipeline.reports.pages import side_by_side

WHITE, BLACK = 255, 0
TRUE_COLUMNS = {"true", "true residual"}
OVERVIEW = "overview"  # name of the sheet with one row per distortion
FIELDS = ("file", "row", "sample", "distortion", "image", "y", "x", "level", "severity", "seed", "psnr", "ssim")


@dataclass(frozen=True)
class Sheet:
    """A PNG file: its name, and a caption and an example for each row."""

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
    captions: bool = True,
) -> Report:
    """Write a sheet for each distortion of the corpus in `folder`, and an overview, into the new folder `out`.

    Samples are spread over the corpus, or belong to `image`; `columns` is a selection of COLUMNS, empty for all
    available columns. `crop_px` is the side of a central crop. gallery.csv lists the sample of each row.
    """
    corpus = open_corpus(folder)
    _check(corpus, out, distortions, columns, rows, crop_px)
    fill = bool(columns) and not TRUE_COLUMNS & set(columns)
    sheets = _sheets(corpus, distortions or corpus.distortions, rows, image, fill=fill)
    for sheet in sheets:
        cells = [_cells(example, columns, crop_px) for _, example in sheet.rows]
        shown = [name for name in columns or COLUMNS if all(name in row for row in cells)]
        if not shown:
            raise PipelineError(
                f"{sheet.name}: the corpus keeps no true images of these samples; choose other --columns"
            )
        image_grid = side_by_side(
            [[row[name] for name in shown] for row in cells],
            shown if captions else [""] * len(shown),
            row_labels=[caption for caption, _ in sheet.rows] if captions else None,
            ground_grey=WHITE,
            text_grey=BLACK,
        )
        write_bytes(out / f"{sheet.name}.png", marked_png(image_grid))
    write_csv(out / "gallery.csv", FIELDS, _rows(sheets))
    single = [sheet for sheet in sheets if sheet.name != OVERVIEW]
    samples = sum(len(sheet.rows) for sheet in single)
    fewer = [sheet.name for sheet in single if len(sheet.rows) < rows]
    hint = f"the corpus keeps fewer than {rows} true images of {', '.join(fewer)}: other --columns give more rows"
    return Report(
        "gallery",
        {"sheets": len(sheets), "samples": samples},
        (
            f"{len(sheets)} sheets of {samples} samples: {out}",
            f"samples by row: {out / 'gallery.csv'}",
            *([hint] if fewer and image is None and not fill else []),
        ),
    )


def sweep(
    folder: Path,
    out: Path,
    *,
    distortions: Sequence[str] = (),
    crop_px: int | None = None,
    image: str | None = None,
    captions: bool = True,
) -> Report:
    """Write a sheet into the new folder `out` with a tile at all levels of each distortion, one row each.

    The tile is the first one, or the first of `image`, with all levels. Distortions with other numbers of levels have
    a sheet of their own.
    """
    corpus = open_corpus(folder)
    _check(corpus, out, distortions, (), 1, crop_px)
    sheets: dict[int, list[tuple[str, list[SampleRecord]]]] = {}
    for name in distortions or corpus.distortions:
        records = _one_tile_at_all_levels(corpus, name, image)
        sheets.setdefault(len(records), []).append((name, records))
    for count, rows in sheets.items():
        pixels = [
            [_cropped(cell, crop_px) for cell in (corpus.pristine(records[0].tile), *_distorted(corpus, records))]
            for _, records in rows
        ]
        headings = ["pristine", *(f"level {number}" for number in range(1, count + 1))]
        grid = side_by_side(
            pixels,
            headings if captions else [""] * len(headings),
            row_labels=[name for name, _ in rows] if captions else None,
            ground_grey=WHITE,
            text_grey=BLACK,
        )
        write_bytes(out / f"sweep-{count}.png", marked_png(grid))
    listed = (
        [f"sweep-{count}.png", number, *(getattr(record, name) for name in FIELDS[2:])]
        for count, rows in sheets.items()
        for number, (_, records) in enumerate(rows, start=1)
        for record in records
    )
    write_csv(out / "gallery.csv", FIELDS, listed)
    return Report("gallery", {"sheets": len(sheets)}, (f"{len(sheets)} sheets of all levels: {out}",))


def _one_tile_at_all_levels(corpus: CorpusStore, distortion: str, image: str | None) -> list[SampleRecord]:
    """Return the records of the first tile that has all levels of `distortion`, mildest first."""
    of_tiles: dict[int, dict[int, SampleRecord]] = {}
    records = [record for record in corpus.records if record.distortion == distortion]
    for record in records:
        if image in (None, record.image):
            of_tiles.setdefault(record.tile, {})[record.level] = record
    levels = {record.level for record in records}
    found = next((by_level for by_level in of_tiles.values() if set(by_level) == levels), None)
    if found is None:
        where = f" of --image {image!r}" if image else ""
        raise PipelineError(f"{corpus.folder} has no tile{where} at all levels of {distortion}")
    return [found[level] for level in sorted(levels)]


def _distorted(corpus: CorpusStore, records: Sequence[SampleRecord]) -> list[Image]:
    return [corpus[record.sample].distorted for record in records]


def _cropped(image: Image, crop_px: int | None) -> Image:
    """Return the central `crop_px` of an image, or all of it."""
    if crop_px is None:
        return image
    y, x = (max(side - crop_px, 0) // 2 for side in image.shape[:2])
    return image[y : y + crop_px, x : x + crop_px]


def _check(
    corpus: CorpusStore,
    out: Path,
    distortions: Sequence[str],
    columns: Sequence[str],
    rows: int,
    crop_px: int | None,
) -> None:
    for names, known, kind in ((distortions, corpus.distortions, "distortion"), (columns, COLUMNS, "column")):
        for name in names:
            if name not in known:
                hint = did_you_mean(name, known) or f"; known are: {', '.join(known)}"
                raise PipelineError(f"{corpus.folder} has no {kind} {name!r}{hint}")
    if rows < 1 or (crop_px is not None and crop_px < 1):
        raise PipelineError(f"--rows and --crop-px must be positive, got {rows} and {crop_px}")
    require_new_folder(out)


def _sheets(
    corpus: CorpusStore, distortions: Sequence[str], rows: int, image: str | None, *, fill: bool
) -> list[Sheet]:
    """Return a sheet for each distortion and, if several, the overview with the first row of each."""
    sheets = []
    for name in distortions:
        examples = _spread(corpus, name, rows, fill) if image is None else image_examples(corpus, name, image, rows)
        if examples:
            records = [example.record for example in examples]
            multi_level = len({record.level for record in records}) > 1
            captions = [f"level {record.level}, " * multi_level + f"sample {record.sample}" for record in records]
            sheets.append(Sheet(name, tuple(zip(captions, examples, strict=True))))
    if not sheets:
        raise PipelineError(f"{corpus.folder} has no sample of --image {image!r}; its index.html lists all images")
    if len(sheets) > 1:
        sheets.insert(0, Sheet(OVERVIEW, tuple((sheet.name, sheet.rows[0][1]) for sheet in sheets)))
    return sheets


def _spread(corpus: CorpusStore, distortion: str, rows: int, fill: bool) -> list[Example]:
    """Return at most `rows` examples, of batches spread over the corpus; see `batch_examples`."""
    names = corpus.batch_names([distortion])
    count = min(rows, len(names))
    chosen = [names[index * len(names) // count] for index in range(count)]
    each = -(-rows // count)
    return [example for name in chosen for example in batch_examples(corpus, name, each, fill=fill)][:rows]


def _cells(example: Example, columns: Sequence[str], crop_px: int | None) -> Mapping[str, Image]:
    """Return column → image of the example, cropped to the central `crop_px` if given."""
    cells = {name: cell for name, cell in example.cells().items() if not columns or name in columns}
    return {name: _cropped(cell, crop_px) for name, cell in cells.items()}


def _rows(sheets: Sequence[Sheet]) -> Iterator[list[object]]:
    """Yield file, row and sample of each row of the sheets."""
    for sheet in sheets:
        for number, (_, example) in enumerate(sheet.rows, start=1):
            yield [f"{sheet.name}.png", number, *(getattr(example.record, name) for name in FIELDS[2:])]


@click.command(
    "gallery",
    epilog=examples(
        "gallery corpus --out figure --rows 3 --crop-px 160",
        "gallery corpus --columns pristine,generated,true --distortions jpeg",
        "gallery corpus --image canyon-wren-864970cc",
        "gallery corpus --sweep --crop-px 160",
    ),
)
@click.argument("corpus", type=STORE_PATH)
@click.option("--out", type=PATH, default="gallery", show_default=True, help="Folder to write.")
@click.option("--distortions", help="Comma-separated names.  [default: all]")
@click.option("--rows", type=click.IntRange(1), default=4, show_default=True, help="Samples per distortion.")
@click.option("--columns", help="Comma-separated columns, see below.  [default: all]")
@click.option(
    "--crop-px", type=click.IntRange(1), help="Side of the central crop of each sample.  [default: whole samples]"
)
@click.option("--image", help="Only samples of the image with this id.")
@click.option("--captions/--no-captions", default=True, show_default=True, help="Headings and captions of rows.")
@click.option("--sweep", "all_levels", is_flag=True, help="A tile at all levels, a row per distortion, instead.")
def gallery_command(
    corpus: Path, out: Path, distortions: str | None, columns: str | None, all_levels: bool, rows: int, **options: Any
) -> None:
    """Write contact sheets of a corpus as PNG files, for figures.

    Columns: pristine, generated, true, generated residual, true residual.
    """
    chosen = names_in(distortions or "")
    if all_levels and columns:
        raise PipelineError("--columns are of rows of samples, --sweep has the levels as columns: give one of them")
    if all_levels:
        show(sweep(corpus, out, distortions=chosen, **options))
    else:
        columns_shown = names_in(columns or "")
        show(gallery(corpus, out, distortions=chosen, columns=columns_shown, rows=rows, **options))
