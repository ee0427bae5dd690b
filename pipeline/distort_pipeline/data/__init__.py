"""Images, manifests, pair stores, corpora and ratings, and their files."""
