"""What evaluate compares with what, and how a multi-level generator's dial is tried."""
