"""Rollouts ahead of the weights, bounded by rollout.max_staleness."""
