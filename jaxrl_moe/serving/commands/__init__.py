"""The commands of scripts/serve.py, each a module with its options."""
