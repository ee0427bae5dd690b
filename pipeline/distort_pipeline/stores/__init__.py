"""Files on disk and in object stores: images, manifests, pair stores, corpora, models."""
