"""Talking to one server of SGLang or vLLM: tokens in and out, weights in."""
