"""Hugging Face checkpoints to and from our parameters, tensor by tensor over one weight map."""
