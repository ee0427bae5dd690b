"""`python -m stages.generate`: makes the corpus with the models."""

from distort_pipeline.steps import generate
from stages.face import BUILD, show

if __name__ == "__main__":  # Dask's workers import this file again
    show(lambda params: generate.run(params.generate, BUILD / "manifest.jsonl", BUILD / "models", BUILD / "corpus"))
