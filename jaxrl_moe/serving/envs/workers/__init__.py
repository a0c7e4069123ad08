"""Several processes behind one port: each holds some of the sessions, and plays their episodes."""
