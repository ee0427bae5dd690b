"""Tests that a sceptic would make: small classifiers that try to tell generated tiles from true ones, and fail to."""
