"""Judge servers: verdicts over HTTP, of models and of people."""
