"""GRPO of all weights with experts over 8 GPUs and the numbers of nmoe's SkyRL example.

128 prompts with 4 completions, minibatches of 16 prompts.
"""
from configs.shared.gsm8k import every
from configs.shared.qwen3_30b_a3b import qwen3_30b_a3b


def nmoe():
    config = qwen3_30b_a3b()
    config.mesh.expert = 8
    config.lora.rank = 0
    config.data.max_prompt_tokens = 1024
    config.rollout.prompts_per_step = 128
    config.rollout.group_size = 4
    config.rollout.max_tokens = 2048
    config.algorithm.kl_coef = 0.001  # k3, to a frozen copy of the model
    config.algorithm.minibatches = 8
    config.optimizer.learning_rate = 1e-6
    config.train.steps = 500
    every(config, steps=50)
    return config
