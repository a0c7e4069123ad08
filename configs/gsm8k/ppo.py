"""PPO with a critic and GAE on GSM8K with Huihui-MoE-1B-A0.6B, LoRA on all linear layers: arXiv 1707.06347,
1506.02438.

    python scripts/train.py --config=configs/gsm8k/ppo.py

Hardware: one GPU of 24 GB; compiled for an RTX 3090 without the critic (benchmarks/plan.md), not run on one.
The critic is a value head of 1 million numbers on the policy's own trunk.
What to expect: critic/explained_variance rises from about 0 as the head learns, and with it the signal in the
advantages; policy/clip_frac_* stay at some percent. One completion a prompt: the critic, not a group, says
what was to be expected.
From the papers: lambda = gamma = 1, advantages whitened over the batch's tokens, clipping by 0.2 of the ratio
and of the values, k1 to the reference taken off the reward token by token. Shorter credit:
--config.algorithm.lam=0.95. Completions that hit the limit can go on with the value at their cut:
--config.algorithm.truncated=bootstrap
"""
from configs.shared.huihui_1b import rl_on_24gb


def get_config():
    config = rl_on_24gb()
    config.run_dir = "runs/ppo"
    config.rollout.prompts_per_step = 128
    config.rollout.group_size = 1
    config.algorithm.advantage = "gae"
    config.algorithm.aggregation = "token-mean"
    config.algorithm.kl_in = "reward"
    config.algorithm.kl_estimator = "k1"
    config.algorithm.kl_coef = 0.001
    config.algorithm.minibatches = 4
    config.critic.learning_rate = 5e-5
    config.critic.clip = 0.2
    return config
