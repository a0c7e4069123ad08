"""A short run that is killed, interrupted, stood still and given a full disk: see __main__.py. runs: what is
run and compared; signals: when it is sent what; full: how its disk is filled; text: the result."""
