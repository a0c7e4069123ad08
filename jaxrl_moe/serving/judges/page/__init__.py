"""The page on which people judge what waits in the queue."""
