"""The queue of works that wait for people, and what these said."""
