"""What `generate` asks of which models, and what the header of a corpus says."""
