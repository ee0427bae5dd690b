"""Decides before anything runs: which tiles of which images stand in which slot of which shard. Pure.

A shard can then be made alone, by anyone, any number of times.
"""
