"""Kernels over HTTP: a server that judges candidates in sandboxes."""
