"""Checkpoints: their arrays, what they say of themselves, the hashes of their files, and which of them a
start goes on from."""
