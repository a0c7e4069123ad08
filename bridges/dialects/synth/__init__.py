"""synth-ai's TOML."""
