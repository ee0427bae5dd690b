"""PNG files in folders and one table beside them: opens everywhere.

export/pristine/00000000.png            every reference tile once, by its number
export/distorted/jpeg/00000000.png      every sample, by its number
export/metadata.csv                     a row for each sample; paths are relative to the table
export/LICENCES.csv                     how many photographs there are under which licence
export/README.md                        what lies here, and what does not
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distort_pipeline.exports import EXPORTS, Part, distorted_pictures
from distort_pipeline.records import SampleRecord, row
from distort_pipeline.stores.corpora import PRISTINE, CorpusStore
from distort_pipeline.stores.files import write_bytes
from distort_pipeline.stores.pictures import encode_png

FIRST = ("distortion", "level", "sample", "tile", "picture", "split", "y", "x", "height", "width", "psnr", "ssim")
REST = tuple(part.name for part in dataclasses.fields(SampleRecord) if part.name not in FIRST)
COLUMNS = ("file_name", "reference", *FIRST, *REST)  # tools that read image folders look for file_name


@EXPORTS.add("png_folder")
class PngFolder:
    """One lossless PNG for each tile and each sample."""

    def write_part(self, corpus: CorpusStore, part: Part, out: Path) -> list[Path]:
        """Write the samples of a part, and the reference tiles that are new with it."""
        files = []
        for number, tile in zip(part.new_tiles, corpus.pictures(PRISTINE, part.new_tiles), strict=True):
            files.append(out / reference_path(number))
            write_bytes(files[-1], encode_png(tile))
        for record, picture in distorted_pictures(corpus, part.distortion, part.records(corpus)):
            files.append(out / sample_path(record))
            write_bytes(files[-1], encode_png(picture))
        return files

    def finish(self, corpus: CorpusStore, parts: Sequence[Part], out: Path) -> list[Path]:
        """Write the table, the licences and the README."""
        table = out / "metadata.csv"
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(_rows(corpus, parts))
        licences = out / "LICENCES.csv"
        write_bytes(licences, _licences(corpus.header["licences"]).encode())
        readme = out / "README.md"
        write_bytes(readme, readme_text(corpus.header, parts).encode())
        return [table, licences, readme]


def reference_path(tile: int) -> str:
    """Return where a reference tile's file lies.

    >>> reference_path(12)
    'pristine/00000012.png'
    """
    return f"pristine/{tile:08d}.png"


def sample_path(record: SampleRecord) -> str:
    """Return where a sample's file lies."""
    return f"distorted/{record.distortion}/{record.sample:08d}.png"


def _rows(corpus: CorpusStore, parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
    for part in parts:
        for record in part.records(corpus):
            yield {"file_name": sample_path(record), "reference": reference_path(record.tile), **row(record)}


def _licences(counts: Mapping[str, int]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["licence", "pictures"])
    table.writerows(sorted(counts.items()))
    return text.getvalue()


def readme_text(header: Mapping[str, Any], parts: Sequence[Part]) -> str:
    """Return what lies in the folder, for people, as Markdown; `header` is the corpus's."""
    samples = {name: sum(part.samples for part in parts if part.distortion == name) for name in header["samples"]}
    tiles = sum(len(part.new_tiles) for part in parts)
    models = "\n".join(
        f"| {name} | {samples[name]} | {_parameters(header['models'][name])} | {header['models'][name]['steps']} "
        f"| `{header['models'][name]['digest']}` |"
        for name in samples
    )
    licences = "\n".join(f"- {licence}: {count}" for licence, count in sorted(header["licences"].items()))
    return f"""# {sum(samples.values())} distorted pictures of {tiles} pristine ones

Photographs, and the same photographs distorted by trained generators: an export of the corpus
`{header["digest"]}`, which has {header["counts"]["samples"]} samples.

| distortion | samples here | what its generator learned | steps | SHA-256 of the generator's weights |
|---|---|---|---|---|
{models}

- `pristine/`: reference tiles, named by their number; samples of all distortions share them.
- `distorted/`: one folder for each distortion; files are named by the sample's number in the corpus.
- `metadata.csv`: a row for each sample. `file_name` and `reference` are paths from here; `y` and `x` are the offset of
  the tile in its photograph `picture`, in pixels; `split` is that of the photograph: one photograph never stands in
  two splits.

All files are PNG, 8-bit sRGB, without loss.

## There are no human scores here

Nobody has looked at these pictures to rate them. `psnr` (dB, empty where both pictures are identical), `ssim` and
`clipped` are computed from the pixels, and `level` names a setting: none of them is an opinion score.

## Licences

The photographs that the corpus was made of, by licence (also in `LICENCES.csv`):

{licences}

Which photograph is under which, the manifest with the digest `{header["manifest_digest"]}` says.
"""


def _parameters(model: Mapping[str, Any]) -> str:
    said = ", ".join(f"{name} {value:g}" for name, value in model["parameters"].items())
    return said or "pairs that somebody brought"
