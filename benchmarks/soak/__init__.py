"""One run for a long time, killed and resumed: see __main__.py. legs: what is run; drive: how; watch,
clients, checks: what is seen."""
