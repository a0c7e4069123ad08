"""Qwen3-0.6B, the smallest Qwen3, plays an environment of AgentGym."""
from jaxrl_moe.config import base


def qwen3_06b():
    """The model and the lengths of episodes."""
    config = base()
    config.model.path = "Qwen/Qwen3-0.6B"
    config.model.dtype = "bfloat16"
    config.lora.rank = 16
    config.lora.alpha = 32.0
    config.train.remat = "full"
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 10
    config.checkpoint.every = 50
    config.checkpoint.keep = 2
    return config
