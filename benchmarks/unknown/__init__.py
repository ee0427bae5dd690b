"""Fourteen unknown distortions: how well the product learns what nobody told it, from pairs of whole images."""

import os

# The matrices are small: on a busy machine the threads of a BLAS that wait for each other took forty times the time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
