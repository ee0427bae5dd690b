"""Beside the path: verify and doctor."""
