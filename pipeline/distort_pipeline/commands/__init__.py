"""The utility commands, apart from the pipeline."""
