"""Everything that touches disk: pictures, manifests, pair stores, corpora, models."""
