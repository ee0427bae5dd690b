"""`python -m stages.pairs`: makes the pair store of the manifest's images."""

from distort_pipeline.steps import pairs
from stages.face import BUILD, show

if __name__ == "__main__":  # Dask's workers import this file again
    show(lambda params: pairs.run(params.pairs, BUILD / "manifest.jsonl", BUILD / "pairs"))
