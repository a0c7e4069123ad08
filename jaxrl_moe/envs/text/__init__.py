"""Games in text, played turn by turn: a command is written, and what comes of it is read."""
