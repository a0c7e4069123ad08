"""Environments that run elsewhere, behind HTTP."""
