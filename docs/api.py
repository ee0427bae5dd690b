"""Writes the pages of the Python API into build/api: `make docs`."""

from __future__ import annotations

from pathlib import Path

import pdoc

import distort_pipeline

OUT = Path("build/api")


def main() -> None:
    """Write the pages."""
    for name in distort_pipeline.__all__:  # imported at their first use, and pdoc looks without using them
        setattr(distort_pipeline, name, getattr(distort_pipeline, name))
    pdoc.render.configure(show_source=False, footer_text=f"distort-pipeline {distort_pipeline.__version__}")
    pdoc.pdoc("distort_pipeline", output_directory=OUT)
    print(f"API pages: {OUT / 'distort_pipeline.html'}")


if __name__ == "__main__":
    main()
