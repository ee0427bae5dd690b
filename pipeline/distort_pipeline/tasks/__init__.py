"""The tasks of workers, a module for each kind: a task writes a whole shard and may be repeated."""
