"""Calls of tools: how families of models write them, and what reads them."""
