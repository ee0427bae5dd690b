"""A trained model: its store, its card, its severity."""
