"""GSPO with the numbers of Agora EX's MoE run.

3 epochs of 4 iterations, 32 episodes in each, in groups of 4, one update at 3e-5.
"""
from configs.shared.gsm8k import every
from configs.shared.qwen3_30b_a3b import qwen3_30b_a3b


def agora():
    config = qwen3_30b_a3b()
    config.rollout.prompts_per_step = 8
    config.rollout.group_size = 4
    config.rollout.max_tokens = 3584  # with a prompt of at most 512
    config.algorithm.loss = "gspo"
    config.algorithm.kl_coef = 0.0
    config.optimizer.learning_rate = 3e-5
    config.train.steps = 12
    config.eval.prompts = 64
    every(config, steps=4)
    return config
