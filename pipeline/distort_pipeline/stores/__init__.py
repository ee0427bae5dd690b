"""Everything that touches disk: images, manifests, pair stores, corpora, models."""
