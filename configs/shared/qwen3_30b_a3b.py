"""Qwen3-30B-A3B in bfloat16 on GSM8K; layers are computed again in the backward pass."""
from configs.shared.gsm8k import gsm8k


def qwen3_30b_a3b():
    config = gsm8k()
    config.model.path = "Qwen/Qwen3-30B-A3B"
    config.model.dtype = "bfloat16"
    config.train.remat = "full"
    return config
