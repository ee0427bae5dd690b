"""Pure planning, before the run: the tiles of each image, and the slot of each tile in the shards.

Each shard can then be made independently, any number of times.
"""
