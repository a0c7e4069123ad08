"""POST /rollouts: an environment server plays episodes itself, with a policy that a client names."""
