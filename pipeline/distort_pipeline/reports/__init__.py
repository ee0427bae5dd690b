"""Charts, cards and HTML pages of corpora, evaluations and models."""
