"""`python -m stages.ingest`: lists the usable images in a manifest."""

from distort_pipeline.steps import ingest
from stages.face import BUILD, show

if __name__ == "__main__":
    show(lambda params: ingest.run(params.ingest, BUILD / "manifest.jsonl"))
