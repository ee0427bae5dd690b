"""Natural scene statistics and full-reference measures; pure."""
