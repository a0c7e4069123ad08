"""GSPO with LoRA on Qwen3-30B-A3B, with the numbers of Agora EX's MoE run; GSM8K stands in for its task app
and judges.

    python scripts/train.py --config=configs/agora_gspo_qwen3_moe.py

Hardware: compiled for one H200, not run on one: 54 GiB of the 131 that JAX gets are left
(benchmarks/plan.md). Rollout and training share the weights (57 GiB in bfloat16), so the second GPU of the
original's split is not needed. Adapters of rank 16 on all linear layers, experts included, take 13 GiB with
gradient and Adam's moments.
From the original: 3 epochs of 4 iterations, 32 episodes in each (2 batches of 16) in groups of 4, one update
at 3e-5, a context of 4,096 tokens, 4 rollouts at a time, as many as a human judge can follow; without one,
--config.rollout.slots=32 is faster.
What to expect: 12 steps move little: watch policy/kl_loss and moe/max_vio. With one update a batch and no
dropout, whose noise would move every ratio out of GSPO's narrow range, its clip never acts;
--config.algorithm.minibatches=2 makes it. Where the sampler's routes differ (mismatch/kl above 1e-3),
--config.moe.replay=r3. Once a task gives the judges' numbers as "event" and "outcome" of its grade's info,
--config.algorithm.reward_blend=0.3,0.3,0.4 (or 0.2,0.4,0.4) weighs them with its reward. Once turns tell what
they achieve (Turn.achieved), the original's step rewards are
--config.algorithm.step_rewards=decision_stepwise --config.algorithm.returns=trajectory.
"""
from configs.shared.agora import agora


def get_config():
    config = agora()
    config.run_dir = "runs/agora_gspo_qwen3_moe"
    config.rollout.slots = 4
    return config
