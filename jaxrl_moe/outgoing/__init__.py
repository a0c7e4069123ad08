"""Calls that this process makes of servers elsewhere."""
