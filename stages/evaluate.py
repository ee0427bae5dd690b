"""`python -m stages.evaluate`: measures the models on the validation images."""

from distort_pipeline.steps import evaluate
from stages.face import BUILD, show

if __name__ == "__main__":
    show(lambda params: evaluate.run(params.evaluate, BUILD / "pairs", BUILD / "models", BUILD / "evaluation"))
