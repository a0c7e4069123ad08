"""Several programs as one: servers and a run that needs them, started in order and ended together."""
