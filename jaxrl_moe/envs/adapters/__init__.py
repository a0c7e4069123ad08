"""Environments of other packages as tasks: Gymnasium, OpenEnv, verifiers, reasoning-gym and servers of MCP.
Each runs in workers of its own, processes of a Python environment that has the package."""
