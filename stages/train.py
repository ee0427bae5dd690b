"""`python -m stages.train DISTORTION`: trains the model of one distortion of the pair store."""

import sys

from distort_pipeline.steps import train
from stages.face import BUILD, show

if __name__ == "__main__":
    name = sys.argv[1]
    show(lambda params: train.run(params.train, BUILD / "pairs", BUILD / "models" / name, distortion=name))
