"""GRPO over a server of AgentGym's protocol, from the checkpoint of configs/agents/agentgym_sft.py.

    python scripts/serve.py env --name=textcraft --port=8081
    python scripts/make_trajectories.py --env=textcraft --count=400 --format=agenttraj --prompts \\
        --out=train.jsonl
    python scripts/train.py --config=configs/agents/agentgym_grpo.py
    python scripts/train.py --config=configs/agents/agentgym_grpo.py:tiny

The other environments have another server and another env.name, as "agentgym(env='babyai', url='...')"; a
server of AgentGym's own will do. The prompts begin as the items do that the SFT has learnt from.
`:tiny` makes data, tokenizer and a small Qwen3-MoE on the spot, learns the form by SFT, and goes on against
`python scripts/serve.py env --name="textcraft(recipes='small', max_depth=1)" --port=8081`.
Hardware: one GPU; how large it must be was not found out, and the recipe was not run. `:tiny`: two CPU cores.
What happens: sixteen goals a step, each played eight times, in up to twenty turns; adapters of rank 16 are
trained. `:tiny` plays what textcraft_grpo.py plays in process, over HTTP. With 280 episodes of
scripts/make_trajectories.py in place of its own data (--nothoughts, goals of depth 1), 90 steps of SFT of 12
conversations took it from 0.00 to 0.30 of 64 held-out goals.
"""
from configs.shared.agentgym import qwen3_06b
from configs.shared.agents import small_player

URL = "http://127.0.0.1:8081"


def get_config(size="0.6b"):
    if size not in ("0.6b", "tiny"):
        raise ValueError(f"The argument is {size!r}; it is one of 0.6b, tiny.")
    return tiny() if size == "tiny" else whole()


def whole():
    config = qwen3_06b()
    config.run_dir = "runs/agentgym_grpo"
    config.model.path = "runs/agentgym_sft/sft/model"
    config.env.name = f"agentgym(env='textcraft', url='{URL}')"
    config.data.path = "train.jsonl"
    config.data.max_prompt_tokens = 1024
    config.episodes.max_tokens = 4096
    config.rollout.prompts_per_step = 16
    config.rollout.group_size = 8
    config.rollout.max_tokens = 256
    config.rollout.slots = 64
    config.algorithm.returns = "trajectory"
    config.algorithm.turn_gamma = 1.0
    config.algorithm.kl_coef = 0.001
    config.optimizer.learning_rate = 1e-5
    config.train.steps = 200
    config.train.tokens_per_micro_batch = 16384
    return config


def tiny():
    config = small_player("textcraft_terse", "runs/agentgym_tiny")
    config.env.name = f"agentgym(env='textcraft', url='{URL}', max_turns=8)"
    config.sft.steps = 100
    config.sft.sequences_per_step = 32
    config.rollout.max_tokens = 24
    config.train.steps = 40
    return config
