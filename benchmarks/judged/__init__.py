"""A run whose rewards people give, disturbed."""
