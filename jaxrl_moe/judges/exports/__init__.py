"""What people said, for other programs: all of it as JSON lines, Argilla's and Label Studio's import formats,
and preferences."""
