"""The rollout buffer: a server between those who play episodes and those who train on them."""
