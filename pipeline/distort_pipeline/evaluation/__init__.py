"""What evaluate compares with what, and how a graded generator's dial is tried."""
