"""Sessions of agents over HTTP: an OpenAI endpoint for each, opened and finished by requests."""
