"""Natural scene statistics and full-reference metrics; pure functions."""
