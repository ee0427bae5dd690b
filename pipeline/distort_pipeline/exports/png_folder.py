"""PNG files in folders and one table beside them: opens everywhere.

export/pristine/00000000.png            every reference tile once, by its number
export/distorted/jpeg/00000000.png      every sample, by its number
export/metadata.csv                     a row for each sample; paths are relative to the table
"""

from __future__ import annotations

from distort_pipeline.exports import EXPORTS
from distort_pipeline.exports.png_tree import PngTree


@EXPORTS.add("png_folder")
class PngFolder(PngTree):
    """One lossless PNG for each tile and each sample."""

    table = "metadata.csv"
    scored = False
    about = """
- `pristine/`: reference tiles, named by their number; samples of all distortions share them.
- `distorted/`: one folder for each distortion; files are named by the sample's number in the corpus.
- `metadata.csv`: `file_name` and `reference` are paths from here.
"""
