"""SFT on AgentGym's trajectories with Qwen3-0.6B: the baseline that configs/agents/agentgym_grpo.py goes on
from.

    python scripts/make_trajectories.py --env=textcraft --count=400 --format=agenttraj --out=agenttraj.jsonl
    python scripts/sft.py --config=configs/agents/agentgym_sft.py
    python scripts/sft.py --config=configs/agents/agentgym_sft.py:lora --config.sft.path=AGENTTRAJ.json

sft.path takes AgentGym's own files, too: items of {item_id, conversations}, of which only the turns whose
loss is true are trained. All weights are trained; `:lora` trains adapters of rank 16 in their place.
Hardware: one GPU; how large it must be was not found out. The recipe itself was not run; the same phase on
the same rows, with a model made from scratch, is that of agentgym_grpo.py:tiny.
What happens: several conversations share a row; the result is runs/agentgym_sft/sft/model.
"""
from configs.shared.agentgym import qwen3_06b


def get_config(trained="full"):
    if trained not in ("full", "lora"):
        raise ValueError(f"The argument is {trained!r}; it is one of full, lora.")
    config = qwen3_06b()
    config.run_dir = "runs/agentgym_sft"
    config.data.path = ""  # of RL, which this recipe has none of
    config.sft.path = "agenttraj.jsonl"
    config.sft.epochs = 3
    config.sft.sequences_per_step = 16
    config.sft.max_tokens = 4096
    config.sft.full = trained == "full"
    config.sft.learning_rate = 1e-5 if config.sft.full else 1e-4
    return config
