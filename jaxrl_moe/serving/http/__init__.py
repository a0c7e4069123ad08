"""What any server of ours needs at its door: keys and limits, errors, and numbers for monitoring."""
