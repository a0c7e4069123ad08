"""GRPO on GSM8K with Huihui-MoE-1B-A0.6B (3 experts, 1 active), LoRA on all linear layers.

    python scripts/train.py --config=configs/gsm8k/grpo.py
    python scripts/train.py --config=configs/gsm8k/grpo.py --config.data.path=gsm8k/train.jsonl \\
        --config.data.eval_path=gsm8k/test.jsonl     # local files in place of the hub's

Hardware: one GPU of 24 GB; compiled for an RTX 3090 (benchmarks/plan.md), not run on one. On a CPU it runs
too, for tests.
Reward: 1 if the final number is right, +0.05 for an answer marker, -0.05 if over-long. What to expect: the
marker bonus is learnt within tens of steps; accuracy rises over hundreds. Evaluation: 200 test rows every 50
steps, sampled and greedy. Against the common setting for this model (LoRA r 16, alpha 32, dropout 0.05, T
0.8, top-p 0.95): top_p is 1 here, since log-probs are those of the whole distribution and truncated sampling
would bias the ratio.
"""
from configs.shared.huihui_1b import rl_on_24gb


def get_config():
    config = rl_on_24gb()
    config.run_dir = "runs/gsm8k_grpo"
    config.lora.dropout = 0.05
    config.rollout.temperature = config.eval.temperature = 0.8
    config.algorithm.kl_coef = 0.05
    config.optimizer.learning_rate = 1e-5
    config.optimizer.weight_decay = 0.01
    config.optimizer.warmup_steps = 100
    config.eval.greedy = True
    return config
