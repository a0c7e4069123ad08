"""Rewards -> advantages -> batch -> update: what makes of graded rollouts a step of the policy."""
