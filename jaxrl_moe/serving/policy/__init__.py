"""Asking a policy elsewhere: chat completions of any server that speaks as OpenAI's does."""
