"""What a worker does, one file for each kind of task: it makes one shard whole, and may make it again."""
