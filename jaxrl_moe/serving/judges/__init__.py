"""Judges over HTTP: the server that scores, and the page on which people judge."""
