"""How a corpus is made: reference tiles and what is true of them, then one batch of samples after the other."""
