"""The conditions of a corpus, and its metadata."""
