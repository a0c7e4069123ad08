"""Rollouts on servers of SGLang and vLLM: clients, weight sync, a probe of what they compute, and a pool of them."""
