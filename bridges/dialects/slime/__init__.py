"""slime's flags."""
