"""GRPO with all weights trained and experts split over 8 GPUs, with the numbers of nmoe's SkyRL example.

    python scripts/train.py --config=configs/nmoe_grpo.py --config.data.path=train_data.parquet

Hardware: compiled for eight H200, not run on any: 42 GiB of the 131 that JAX gets are left
(benchmarks/plan.md). Qwen3-30B-A3B stands in for nmoe's own architecture. A device holds 5.2 B of the weights
(its experts, and all else), with float32 masters, two gradients while micro-batches add up, and bfloat16
copies; Adam's moments and the reference lie in the host's memory between uses (train.offload), for all eight
devices 0.4 TB of it. On 16 devices --config.mesh.fsdp=2 needs less of it.
From the original: 128 prompts of up to 1,024 tokens with 4 completions of up to 2,048, minibatches of 16
prompts, learning rate 1e-6, 0.001 of the k3 KL to a frozen copy of the model, and 0.01 for the router's
balancing loss, which there had no effect; here moe/aux_loss and moe/max_vio show that it has.
What to expect: moe/max_vio falls or stays where it was; at 1e-6 the reward moves over hundreds of steps.
"""
from configs.shared.nmoe import nmoe


def get_config():
    config = nmoe()
    config.run_dir = "runs/nmoe_grpo"
    config.moe.aux_loss_coef = 0.01
    config.train.tokens_per_micro_batch = 49152
    config.train.offload = ("optimizer", "reference")
    return config
