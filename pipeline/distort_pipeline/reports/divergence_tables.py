"""The table of divergences as Markdown, with the paper's table, and as text for a terminal."""

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
    "The paper does not state distortion levels, image sizes, bins or logarithm, so the tables are comparable in "
    "pattern but not number by number."
)


def markdown(evaluation: Evaluation) -> str:
    """Return the table as Markdown, minima of rows and columns marked, followed by the paper's table if comparable."""
    columns = evaluation.columns
    ours = {name: [row[column] for column in columns] for name, row in evaluation.table.items()}
    identity = [evaluation.pristine[column] for column in columns]
    lines = [
        "# JSD_NSS in bits, mean over validation images",
        "",
        f"Rows: generated. Columns: true. {len(evaluation.images)} images. The row *pristine* is the "
        "identity baseline. **Bold**: smallest of its row; ↓: smallest of its column.",
        "",
        *_markdown_table(columns, ours, identity, in_bits),
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
    """Return whether the paper has any of these true distortions, at any level.

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
    formatted = {name: [in_bits(row[column]) for column in columns] for name, row in rows}
    widths = [max(map(len, cells)) for cells in zip(columns, *formatted.values(), strict=True)]
    head = [f"{column:>{width}}" for column, width in zip(columns, widths, strict=True)]
    body = [
        "  ".join([f"{name:<{first}}", *(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))])
        for name, cells in formatted.items()
    ]
    return ("  ".join([f"{CORNER:<{first}}", *head]), *body)


def smallest(rows: Sequence[Sequence[float]]) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Return the indices (row, column) of the minima of rows, and of the minima of columns.

    >>> smallest([[1.0, 2.0], [3.0, 4.0]]) == ({(0, 0), (1, 0)}, {(0, 0), (0, 1)})
    True
    """
    table = np.asarray(rows)
    of_rows = table == table.min(1, keepdims=True)
    of_columns = table == table.min(0, keepdims=True)
    return _indices(of_rows), _indices(of_columns)


def _markdown_table(
    columns: Sequence[str],
    rows: Mapping[str, Sequence[float]],
    pristine: Sequence[float] | None,
    form: Callable[[float], str],
) -> list[str]:
    all_rows = [*rows.items(), *([("pristine", pristine)] if pristine is not None else [])]
    of_rows, of_columns = smallest([row for _, row in all_rows])
    lines = [f"| {CORNER} | {' | '.join(map(_cell, columns))} |", "|---" + "|---:" * len(columns) + "|"]
    for number, (name, row) in enumerate(all_rows):
        cells = [_cell(f"*{name}*" if number == len(rows) else name)]
        for index, bits in enumerate(row):
            is_smallest = (number, index) in of_rows and number < len(rows)
            arrow = " ↓" if (number, index) in of_columns else ""
            cells.append(f"**{form(bits)}**{arrow}" if is_smallest else f"{form(bits)}{arrow}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _indices(marked: Any) -> set[tuple[int, int]]:
    return {(int(row), int(column)) for row, column in np.argwhere(marked)}
