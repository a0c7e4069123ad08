"""What runs in the environment of the package alfworld, by its path: it imports nothing of this library."""
