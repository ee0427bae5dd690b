"""The table of divergences in words: as Markdown with the paper's beside it, and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from distort_pipeline.reports.numbers import in_bits
from distort_pipeline.statistics.evaluation import Evaluation

CORNER = "generated / true"  # rows / columns

# Chen et al. 2020, table I: rows generated, columns true. Levels, sizes, bins and logarithm are not stated there.
PAPER_COLUMNS = ("jpeg", "jp2k", "white_noise", "pink_noise")
PAPER_TABLE: Mapping[str, tuple[float, ...]] = {
    "jpeg": (0.0107, 0.0043, 0.2191, 0.0470),
    "jp2k": (0.0116, 0.0031, 0.2321, 0.0541),
    "white_noise": (0.1847, 0.2149, 0.0008, 0.0959),
    "pink_noise": (0.0195, 0.0317, 0.1377, 0.0062),
}
PAPER_CAVEAT = (
    "The paper states no distortion levels, image sizes, bins or logarithm, so the two tables compare in their "
    "pattern, not number by number."
)


def markdown(evaluation: Evaluation) -> str:
    """Return the table as Markdown, with the smallest of rows and columns marked; the paper's beside it if it tells."""
    columns = evaluation.columns
    ours = {name: [row[column] for column in columns] for name, row in evaluation.table.items()}
    nothing = [evaluation.pristine[column] for column in columns]
    lines = [
        "# JSD_NSS in bits, mean over validation images",
        "",
        f"Rows: generated. Columns: true. {len(evaluation.images)} images. The row *pristine* is what doing "
        "nothing scores. **Bold**: smallest of its row; ↓: smallest of its column.",
        "",
        *_markdown_table(columns, ours, nothing, in_bits),
    ]
    if in_the_paper(columns):
        lines += [
            "",
            "The paper's table (Chen et al., IEEE Signal Processing Letters 27, 2020). " + PAPER_CAVEAT,
            "",
            *_markdown_table(
                PAPER_COLUMNS, {name: list(row) for name, row in PAPER_TABLE.items()}, None, "{:.4f}".format
            ),
        ]
    return "\n".join(lines) + "\n"


def in_the_paper(columns: Sequence[str]) -> bool:
    """Return whether the paper has any of these true distortions, at whatever level; else its table says nothing here.

    >>> in_the_paper(["lens", "jpeg-3"]), in_the_paper(["lens"])
    (True, False)
    """
    return any(column == name or column.startswith(f"{name}-") for column in columns for name in PAPER_COLUMNS)


def text_table(figures: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the table of `metrics` as aligned lines for a terminal.

    >>> print(*text_table({"table": {"jpeg": {"jpeg": 0.01}}, "pristine": {"jpeg": 0.077}}), sep=chr(10))
    generated / true    jpeg
    jpeg              0.0100
    pristine          0.0770
    """
    columns = list(figures["pristine"])
    rows = [*figures["table"].items(), ("pristine", figures["pristine"])]
    first = max(len(CORNER), *(len(name) for name, _ in rows))
    said = {name: [in_bits(row[column]) for column in columns] for name, row in rows}
    widths = [max(map(len, cells)) for cells in zip(columns, *said.values(), strict=True)]
    head = [f"{column:>{width}}" for column, width in zip(columns, widths, strict=True)]
    body = [
        "  ".join([f"{name:<{first}}", *(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))])
        for name, cells in said.items()
    ]
    return ("  ".join([f"{CORNER:<{first}}", *head]), *body)


def smallest(rows: Sequence[Sequence[float]]) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Return the places (row, column) of the smallest values of all rows, and those of all columns.

    >>> smallest([[1.0, 2.0], [3.0, 4.0]]) == ({(0, 0), (1, 0)}, {(0, 0), (0, 1)})
    True
    """
    table = np.asarray(rows)
    of_rows = table == table.min(1, keepdims=True)
    of_columns = table == table.min(0, keepdims=True)
    return _places(of_rows), _places(of_columns)


def _markdown_table(
    columns: Sequence[str],
    rows: Mapping[str, Sequence[float]],
    pristine: Sequence[float] | None,
    said: Callable[[float], str],
) -> list[str]:
    every = [*rows.items(), *([("pristine", pristine)] if pristine is not None else [])]
    of_rows, of_columns = smallest([row for _, row in every])
    lines = [f"| {CORNER} | {' | '.join(map(_cell, columns))} |", "|---" + "|---:" * len(columns) + "|"]
    for number, (name, row) in enumerate(every):
        cells = [_cell(f"*{name}*" if number == len(rows) else name)]
        for place, bits in enumerate(row):
            bold = (number, place) in of_rows and number < len(
                rows
            )  # nobody asks what the identity baseline is nearest to
            arrow = " ↓" if (number, place) in of_columns else ""
            cells.append(f"**{said(bits)}**{arrow}" if bold else f"{said(bits)}{arrow}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _places(marked: Any) -> set[tuple[int, int]]:
    return {(int(row), int(column)) for row, column in np.argwhere(marked)}
