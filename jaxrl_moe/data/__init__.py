"""From files to token ids: tokenizer and chat template, prompts in one global order, conversations with their
masks."""
