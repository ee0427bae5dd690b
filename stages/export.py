"""`python -m stages.export`: writes the corpus as files for other tools."""

from distort_pipeline.steps import export
from stages.face import BUILD, show

if __name__ == "__main__":  # Dask's workers import this file again
    show(lambda params: export.run(params.export, BUILD / "corpus", BUILD / "export"))
