"""`python -m distort_pipeline` is `distort-pipeline`."""

from distort_pipeline.cli import main

if __name__ == "__main__":
    main()
