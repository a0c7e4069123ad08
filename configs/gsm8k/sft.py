"""SFT on GSM8K's own solutions with Huihui-MoE-1B-A0.6B, adapters on all linear layers.

    python scripts/sft.py --config=configs/gsm8k/sft.py
    python scripts/sft.py --config=configs/gsm8k/sft.py --config.sft.full=true --config.sft.learning_rate=1e-5

Hardware: one GPU; how large it must be was not found out, as scripts/plan.py plans RL alone. sft.full=true
adds masters, moments and gradients of all weights in float32, 16 bytes a weight.
What to expect: calculator spans are removed, only the answers are trained, several conversations share a row;
the result is runs/gsm8k_sft/sft/model, and an adapter beside it. Go on with RL:
    python scripts/train.py --config=configs/gsm8k/grpo.py --config.model.path=runs/gsm8k_sft/sft/model
"""
from configs.shared.huihui_1b import huihui_1b


def get_config():
    config = huihui_1b()
    config.run_dir = "runs/gsm8k_sft"
    config.lora.dropout = 0.05
    config.data.path = ""  # of RL, which this recipe has none of
    config.sft.path = "openai/gsm8k"
    config.sft.epochs = 2
    config.sft.sequences_per_step = 32
    config.sft.max_tokens = 768
    config.sft.learning_rate = 1e-4
    config.sft.full = False
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 20
    config.optimizer.weight_decay = 0.01
    config.eval.greedy = True
    config.checkpoint.every = 100
    return config
