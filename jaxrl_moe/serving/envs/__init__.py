"""Environment servers: the episodes of a task over HTTP, as AgentGym's clients play them."""
