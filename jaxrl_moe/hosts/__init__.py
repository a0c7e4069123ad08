"""Processes that join, agree and end together: who they are, what process 0 tells the others, and whose turn
it is."""
