"""Huihui-MoE-1B-A0.6B (3 experts, 1 active) on GSM8K, with LoRA of rank 16 on all linear layers."""
from configs.shared.gsm8k import every, gsm8k


def huihui_1b():
    """The model and the lengths of its prompts and completions."""
    config = gsm8k()
    config.model.path = "huihui-ai/Huihui-MoE-1B-A0.6B-SFT"
    config.lora.rank = 16
    config.lora.alpha = 32.0
    config.data.max_prompt_tokens = 320
    config.rollout.max_tokens = 512
    return config


def rl_on_24gb():
    """What recipes of RL share: 500 steps of 16 prompts with 8 completions each, on one GPU of 24 GB."""
    config = huihui_1b()
    config.rollout.prompts_per_step = 16
    config.rollout.group_size = 8
    config.optimizer.warmup_steps = 20
    config.train.steps = 500
    config.train.remat = "mlp"  # none asks for 21 GiB a micro-batch, more than 24 GB cards have room for
    every(config, steps=50)
    return config
