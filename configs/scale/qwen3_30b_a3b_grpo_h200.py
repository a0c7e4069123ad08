"""GRPO on GSM8K with Qwen3-30B-A3B: rollout and training in one process on one H200.

    python scripts/train.py --config=configs/scale/qwen3_30b_a3b_grpo_h200.py

Hardware: compiled for one H200, not run on one (2026-11-27, jax 0.10.2; scripts/plan.py says it anew): the
update asks for 80 GiB, the rollout for 86, of the 131 that JAX gets. bfloat16 weights, 57 GiB, are shared by
the engine and the trainer; adapters of rank 16 on every linear layer, experts included, take 13 GiB in
float32 with gradient and Adam's moments; a micro-batch of 15,360 tokens asks for 11 GiB beside them, each
layer being computed again in the backward pass (train.remat). 128 sequences of up to 1,536 tokens take 18 GiB
of KV pages, which are freed during the update.
What to expect: the base answers most GSM8K rows already; watch reward/mean, mismatch/kl (bfloat16: about
1e-3) and moe/max_vio. Adapters on attention alone (--config.lora.targets=q_proj,k_proj,v_proj,o_proj) take a
twentieth of the adapters' memory.
"""
from configs.shared.gsm8k import every
from configs.shared.qwen3_30b_a3b import qwen3_30b_a3b


def get_config():
    config = qwen3_30b_a3b()
    config.run_dir = "runs/qwen3_30b_a3b_grpo"
    config.lora.rank = 16
    config.lora.alpha = 32.0
    config.data.suffix += " /no_think"
    config.data.max_prompt_tokens = 512
    config.rollout.prompts_per_step = 32
    config.rollout.group_size = 8
    config.rollout.max_tokens = 1024
    config.rollout.slots = 128
    config.rollout.page_size = 64
    config.rollout.decode_steps = 32
    config.algorithm.kl_coef = 0.001
    config.optimizer.learning_rate = 2e-5
    config.optimizer.warmup_steps = 10
    config.train.steps = 200
    config.train.tokens_per_micro_batch = 16384
    every(config, steps=20)
    return config
