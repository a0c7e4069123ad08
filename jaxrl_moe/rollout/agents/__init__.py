"""Episodes that agents elsewhere play: sessions, whose calls of the policy are recorded as they are drawn."""
