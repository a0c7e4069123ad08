"""Agora EX: pages and texts that fulfil a brief."""
