"""What the sections of a configuration say against themselves and each other; a file for each subject."""
