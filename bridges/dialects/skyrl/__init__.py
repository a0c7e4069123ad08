"""SkyRL's YAML, and its overrides."""
