"""OpenAI's protocol: from what a client sends to requests of the engine, and back."""
