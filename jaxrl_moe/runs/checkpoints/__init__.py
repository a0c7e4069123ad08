"""Checkpoints: their arrays, what they say of themselves, the hashes of their files, and from which one a start
goes on."""
