"""PNG files in folders and a table.

export/pristine/00000000.png            every reference tile, by number
export/distorted/jpeg/00000000.png      every sample, by number
export/metadata.csv                     a row for each sample, with paths relative to the table
"""

from __future__ import annotations

from distort_pipeline.exports import EXPORTS, PngTree


@EXPORTS.add("png_folder")
class PngFolder(PngTree):
    """A lossless PNG for each tile and each sample."""

    table = "metadata.csv"
    scored = False
    about = """
- `pristine/`: reference tiles, named by their number, shared by the samples of all distortions.
- `distorted/`: one folder for each distortion; files are named by the sample's number in the corpus.
- `metadata.csv`: `file_name` and `reference` are paths relative to this folder.
"""
