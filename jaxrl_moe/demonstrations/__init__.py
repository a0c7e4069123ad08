"""Episodes to learn from: as oracles play the environments, or of a run's own the good ones."""
